//! The link carries nothing for a while, and tells nobody.

use std::time::{Duration, Instant};

use edge_outbox::rusqlite::Connection;

use crate::SOON;
use crate::args::Args;
use crate::arrivals::Arrivals;
use crate::audit::{self, Told};
use crate::mosquitto::Mosquitto;
use crate::proxy::Proxy;
use crate::workload::{Said, Workload};

/// Answers are waited for 2 s, and as long as what is in flight takes at 1 KiB/s; a few messages are.
const SETTINGS: &str = r#"{"window":16,"ack_timeout":"2s","reconnect":{"first":"100ms","longest":"1s"},
    "settle_after":"100ms","retention":"1s"}"#;
const URL_SETTINGS: &str = "keep_alive=5s&connect_timeout=2s";
/// Beyond what the answers are waited for.
const LASTS: Duration = Duration::from_secs(8);
/// Twice the keep-alive, after which a link is given up that was idle, and as much as a busy machine may need.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);
const DRAINED_WITHIN: Duration = Duration::from_secs(10);
/// What one reconnect may repeat: the window and what is settled together.
const REPEATED: u64 = 16 + 516;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum BlackHole {
    Silent,
    Stranded,
    Idle,
}

impl BlackHole {
    pub fn name(self) -> &'static str {
        match self {
            BlackHole::Silent => "silent",
            BlackHole::Stranded => "stranded",
            BlackHole::Idle => "idle",
        }
    }

    pub fn play(self, args: &Args) -> Result<String, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("device.db");
        let broker = Mosquitto::start();
        let (mut arrivals, proxy) = (Arrivals::at(&broker), Proxy::to(broker.port()));
        let url = format!("mqtt://127.0.0.1:{}?{URL_SETTINGS}", proxy.port());
        let mut command = Workload::command(args, &database, &url, args.seed);
        let mut device = Device {
            workload: Workload::start(command.args(["--rate", "300", "--settings", SETTINGS])),
            told: Told::default(),
        };
        let drained = self.break_and_heal(&mut device, &proxy);
        let Device { workload, mut told } = device;
        for said in workload.kill().map_err(|why| vec![why])? {
            told.note(&said);
        }
        let drained = drained.map_err(|why| vec![why])?;

        let stands = audit::readings(&Connection::open(&database).unwrap()).unwrap();
        arrivals.wait_for(&stands);
        arrivals.catch_up();
        let mut broken = std::mem::take(&mut arrivals.damaged);
        broken.extend(audit::durable(&told, &stands));
        broken.extend(audit::announced(&told, &stands, 1));
        broken.extend(audit::delivered(&stands, &arrivals.readings));
        broken.extend(audit::repeated(&arrivals.readings, told.reconnects, REPEATED));
        broken.extend(audit::sound(&database));
        if broken.is_empty() {
            let (drained, again) = (drained.as_secs_f64(), arrivals.readings.len() - stands.len());
            Ok(format!("drained {drained:.1} s after healing, {} messages, {again} of them again", stands.len()))
        } else {
            Err(broken)
        }
    }

    /// How long it took to be drained, from healing on.
    fn break_and_heal(self, device: &mut Device, proxy: &Proxy) -> Result<Duration, String> {
        device.commits(300)?;
        if self == BlackHole::Idle {
            device.workload.tell("drain");
            device.wait_for(&Said::Drained, SOON)?;
        }
        proxy.fall_silent();
        if self != BlackHole::Silent {
            proxy.strand();
        }
        let begun = Instant::now();
        device.wait_for(&Said::Reconnect, NOTICED_WITHIN).map_err(|_| {
            format!("the link carried nothing for {NOTICED_WITHIN:?}, and no other session was tried: not noticed")
        })?;
        device.hear(begun + LASTS, |_| false)?;
        if self == BlackHole::Idle {
            device.workload.tell("write");
            device.commits(300)?;
        }
        proxy.heal();
        let healed = Instant::now();
        device.workload.tell("drain");
        device.wait_for(&Said::Drained, DRAINED_WITHIN)?;
        Ok(healed.elapsed())
    }
}

struct Device {
    workload: Workload,
    told: Told,
}

impl Device {
    /// Notes what it says until then, or until it says what is waited for.
    fn hear(&mut self, until: Instant, wanted: impl Fn(&Said) -> bool) -> Result<bool, String> {
        self.workload.hear_until(until, wanted, |said| self.told.note(said))
    }

    fn wait_for(&mut self, wanted: &Said, within: Duration) -> Result<(), String> {
        let heard = self.hear(Instant::now() + within, |said| said == wanted)?;
        heard.then_some(()).ok_or_else(|| format!("it did not say {wanted:?} within {within:?}"))
    }

    fn commits(&mut self, count: usize) -> Result<(), String> {
        for _ in 0..count {
            let heard = self.hear(Instant::now() + SOON, |said| matches!(said, Said::Commit(_)))?;
            heard.then_some(()).ok_or("nothing is committed any more")?;
        }
        Ok(())
    }
}
