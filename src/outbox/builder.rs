//! Opening an outbox.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::Connection;
use scheduled_thread_pool::ScheduledThreadPool;

use super::{Inner, Outbox};
use crate::broker::Broker;
use crate::disk::{self, Disk};
use crate::error::chain;
use crate::forwarder::{Mailbox, OnFailed, Parts, Shared, start};
use crate::gate::Gate;
use crate::status::{FailedMessage, Role};
use crate::store::{self, Creation, Store};
use crate::{Error, Settings};

/// Connections of the pool: one that writes, and one for whoever looks meanwhile.
const CONNECTIONS: u32 = 2;

/// Runs on each connection that the outbox opens.
pub(crate) type OnConnect = Arc<dyn Fn(&mut Connection) -> rusqlite::Result<()> + Send + Sync>;

/// What an [`Outbox`] is opened with. Made by [`Outbox::builder`].
#[must_use = "nothing is opened before `open`"]
pub struct Builder {
    path: PathBuf,
    creation: Creation,
    settings: Settings,
    broker: Option<Box<dyn Broker>>,
    pool: Option<Pool<SqliteConnectionManager>>,
    on_connect: Option<OnConnect>,
    on_failed: Option<OnFailed>,
}

impl Builder {
    pub(super) fn new(path: &Path) -> Self {
        Builder {
            path: path.to_owned(),
            creation: Creation::Allowed,
            settings: Settings::default(),
            broker: None,
            pool: None,
            on_connect: None,
            on_failed: None,
        }
    }

    /// Opens what is there: a path that was mistyped creates no database, and another program's database gets no outbox.
    pub fn existing(mut self) -> Self {
        self.creation = Creation::Refused;
        self
    }

    /// How messages are kept and forwarded. Defaults to [`Settings::default`].
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Where messages go. Without one this outbox only writes, and another one, in this process or in another,
    /// forwards.
    pub fn broker(mut self, broker: impl Broker) -> Self {
        self.broker = Some(Box::new(broker));
        self
    }

    /// The application's own pool, for [`Outbox::transaction`] and [`Outbox::connection`]. It must be on the same file,
    /// and should not create it (no `SQLITE_OPEN_CREATE`): in the place of a file that was moved away SQLite would
    /// begin an empty database.
    /// Defaults to a small one of our own. The forwarder has a connection of its own in either case.
    pub fn pool(mut self, pool: Pool<SqliteConnectionManager>) -> Self {
        self.pool = Some(pool);
        self
    }

    /// Runs on each connection that the outbox opens, before anything else: for keys of an encrypted database,
    /// functions, `foreign_keys`. A pool given by [`pool`](Self::pool) opens its own.
    pub fn on_connect(
        mut self,
        hook: impl Fn(&mut Connection) -> rusqlite::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.on_connect = Some(Arc::new(hook));
        self
    }

    /// Is told of each message that is parked as FAILED, on the forwarder's thread, after it stands so in the table.
    /// It should be quick, for nothing is forwarded meanwhile; a panic in it stops the forwarder. After a crash at the
    /// wrong moment it is not told: [`Outbox::failed`] is what counts. An [`Outbox`] kept in it is a clone that is never
    /// dropped: then only [`Outbox::shutdown`] stops the forwarder, and neither that nor [`Outbox::flush`] can be called
    /// in it, where they would wait for themselves.
    pub fn on_failed(mut self, tell: impl Fn(&FailedMessage) + Send + 'static) -> Self {
        self.on_failed = Some(Box::new(tell));
        self
    }

    /// Opens the database, creates or upgrades the outbox in it in one transaction, and begins to forward.
    ///
    /// Tables of the application, `user_version` and `application_id` are left alone. The database is put into WAL
    /// mode.
    ///
    /// # Errors
    /// [`Error::Settings`] with all that is wrong with them; [`Error::CannotOpen`], [`Error::NotADatabase`],
    /// [`Error::ReadOnly`], [`Error::NotWal`], [`Error::NewerSchema`], [`Error::ForeignTable`], [`Error::LogAlone`],
    /// [`Error::Busy`] and, after [`existing`](Self::existing), [`Error::Missing`] and [`Error::NoOutbox`]: the file is then
    /// as it was. [`Error::DiskFull`], [`Error::Disk`], [`Error::Damaged`] and [`Error::Sqlite`], a hook's own errors among
    /// them; [`Error::Invalid`] for a path that is not UTF-8; [`Error::Io`] where the system has no thread for the forwarder,
    /// or does not let the reserve be made.
    pub fn open(self) -> Result<Outbox, Error> {
        self.settings.check()?;
        let on_connect = self.on_connect.unwrap_or_else(|| Arc::new(|_| Ok(())));
        let connection = match connect(&self.path, self.creation, &self.settings, &on_connect) {
            // -shm has to be made, and there is no space for it, nor perhaps for a folder's entry.
            Err(_) if disk::is_full(&self.path) && disk::give_up_reserve(&self.path) => {
                connect(&self.path, self.creation, &self.settings, &on_connect)?
            }
            connected => connected?,
        };
        let path = connection.path().map(PathBuf::from).ok_or_else(Error::path_is_no_text)?;
        let disk = Arc::new(Disk::of(&path, &self.settings)?);
        let pool = match self.pool {
            Some(pool) => pool,
            None => {
                let longest_log = longest_log(&self.settings, self.broker.is_some());
                if self.broker.is_none() && disk.log_size() >= longest_log {
                    empty_log(&connection, self.settings.busy_timeout);
                }
                pool(&path, &self.settings, longest_log, on_connect.clone(), disk.clone())
            }
        };
        if !disk.make_reserve(1)? {
            log::warn!("no space for a reserve beside {}: no new messages are taken", path.display());
        }
        let (mailbox, woken) = Mailbox::new();
        let role = if self.broker.is_some() { Role::Standby } else { Role::Writer };
        let shared = Arc::new(Shared::new(mailbox, role));
        let gate = Arc::new(Gate::default());
        let check = self.broker.as_ref().and_then(|broker| broker.check());
        let (ended, anchor) = match self.broker {
            None => (None, Some(Mutex::new(connection))),
            Some(broker) => {
                let store = Store::new(connection)?;
                let (settings, on_failed) = (self.settings.clone(), self.on_failed);
                let parts = Parts {
                    broker,
                    store,
                    disk: disk.clone(),
                    settings,
                    shared: shared.clone(),
                    woken,
                    gate: gate.clone(),
                    on_failed,
                };
                (Some(start(path.clone(), parts)?), None)
            }
        };
        let inner = Inner { path, settings: self.settings, pool, gate, shared, disk, check, ended, _anchor: anchor };
        Ok(Outbox { inner: Arc::new(inner) })
    }
}

/// On a plain connection: a pool flattens errors, and takes its whole timeout to say them.
fn connect(path: &Path, creation: Creation, settings: &Settings, on_connect: &OnConnect) -> Result<Connection, Error> {
    disk::no_log_alone(path)?;
    let mut connection = store::connect(path, creation)?;
    on_connect(&mut connection)?;
    store::prepare(&mut connection, path, creation, settings.busy_timeout)?;
    Ok(connection)
}

/// Bytes of the log from which the pool's connections checkpoint: a forwarder of this process does so sooner, off everybody's
/// commits. Where there is perhaps none on the whole device, a log must not become longer than the reserve, in which it has
/// to be moved once the disk is full.
fn longest_log(settings: &Settings, forwards: bool) -> u64 {
    match settings.reserve {
        _ if forwards => 16 << 20,
        0 => 4 << 20,
        reserve => reserve,
    }
}

/// For programs that come, write and go. What one of them has moved into the database the next one does not know of, if
/// nobody had it open in between: each would move all of a long log anew, and none begin it anew.
fn empty_log(connection: &Connection, busy_timeout: Duration) {
    let emptied =
        connection.busy_timeout(Duration::ZERO).map_err(Error::from).and_then(|()| store::empty_log(connection));
    if let Err(error) = emptied.and(connection.busy_timeout(busy_timeout).map_err(Error::from)) {
        log::debug!("the log stays as long as it is: {}", chain(&error));
    }
}

/// Its connections are opened when they are needed, and by name: not in the place of a file that was moved away, where
/// SQLite would begin an empty database, and delete the log of the other one.
fn pool(
    path: &Path,
    settings: &Settings,
    longest_log: u64,
    on_connect: OnConnect,
    disk: Arc<Disk>,
) -> Pool<SqliteConnectionManager> {
    let busy_timeout = settings.busy_timeout;
    let manager = SqliteConnectionManager::file(path).with_flags(store::OPEN_EXISTING).with_init(move |connection| {
        disk.files_stand().map_err(store::not_opened)?;
        on_connect(connection)?;
        store::configure(connection, store::Role::Application { busy_timeout, longest_log })
    });
    let helper = ScheduledThreadPool::builder().num_threads(1).thread_name_pattern("edge-outbox-pool").build();
    Pool::builder()
        .max_size(CONNECTIONS)
        .min_idle(Some(0))
        .idle_timeout(None)
        .max_lifetime(None)
        .test_on_check_out(false)
        .connection_timeout(busy_timeout)
        .thread_pool(Arc::new(helper))
        .error_handler(Box::new(r2d2::LoggingErrorHandler))
        .build_unchecked(manager)
}
