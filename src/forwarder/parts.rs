//! What the forwarder's thread is given when it is started.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::Shared;
use crate::broker::Broker;
use crate::disk::Disk;
use crate::gate::Gate;
use crate::settings::Settings;
use crate::status::FailedMessage;
use crate::store::Store;

/// Called for each message that was parked as FAILED, on the forwarder's thread.
pub(crate) type OnFailed = Box<dyn Fn(&FailedMessage) + Send>;

/// What the thread works with, whether it is active or stands by.
pub(crate) struct Parts {
    pub broker: Box<dyn Broker>,
    pub store: Store,
    pub disk: Arc<Disk>,
    pub settings: Settings,
    pub shared: Arc<Shared>,
    pub woken: Receiver<()>,
    pub gate: Arc<Gate>,
    pub on_failed: Option<OnFailed>,
}
