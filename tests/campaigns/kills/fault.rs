//! What the network does while the program is killed.

use std::time::{Duration, Instant};

use crate::chance::Chance;
use crate::proxy::Proxy;

/// Answers that no broker gives, or not to a publisher that asked for nothing.
const JUNK: [&[u8]; 5] = [
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    &[0xff; 16],
    &[0; 64],
    // an acknowledgement of a packet id that nobody uses
    &[0x40, 2, 0xff, 0xff],
    // a packet of which only the beginning comes
    &[0x40, 0x80, 0x80],
];
/// One that waits for its cue gives up after this.
const CUE: Duration = Duration::from_millis(80);

/// The same for the last one, before which the program may have to give up a session first.
const LAST_CUE: Duration = Duration::from_secs(4);

/// Nobody says that something is missing, and the connection stands.
pub const SILENT: [&str; 3] = ["shed", "swallow acks", "half-open"];
/// The connection ends, with messages under way.
pub const ABRUPT: [&str; 5] = ["cut after receipt", "truncate", "half an ack", "hang up", "reset"];

/// In the order in which they are dealt; the last two only with MQTT 5.
const KINDS: [&str; 20] = [
    "delay",
    "reorder",
    "throttle",
    "cut",
    "hang up",
    "reset",
    "truncate",
    "cut after receipt",
    "half an ack",
    "half-open",
    "black hole",
    "swallow acks",
    "double acks",
    "junk",
    "refuse CONNECT",
    "lose",
    "shed",
    "shed and double acks",
    "refuse",
    "DISCONNECT",
];

/// One fault after the other, with calm in between, for as long as it is asked to.
pub struct Storm {
    chance: Chance,
    keys: usize,
    kinds: Vec<&'static str>,
    /// Those of this round that did not happen yet.
    deck: Vec<&'static str>,
    now: Option<Blowing>,
    next: Instant,
}

struct Blowing {
    kind: &'static str,
    /// How much had been done to the traffic before.
    before: usize,
    until: Instant,
    /// It is over once it has done something.
    once: bool,
}

impl Storm {
    pub fn new(chance: Chance, keys: usize, mqtt_5: bool) -> Self {
        let kinds = KINDS[..KINDS.len() - if mqtt_5 { 0 } else { 2 }].to_vec();
        Storm { chance, keys, kinds, deck: Vec::new(), now: None, next: Instant::now() }
    }

    /// When to [step](Self::step) again.
    pub fn due(&self) -> Instant {
        match &self.now {
            // whether it has done something is looked at now and then
            Some(now) if now.once => now.until.min(Instant::now() + Duration::from_millis(2)),
            Some(now) => now.until,
            None => self.next,
        }
    }

    /// Begins or ends what is due, and answers the kind of a fault that hit and is over.
    pub fn step(&mut self, proxy: &Proxy) -> Option<&'static str> {
        let time = Instant::now();
        match &self.now {
            None if self.next <= time => {
                self.begin(proxy);
                None
            }
            Some(now) if now.until <= time || now.once && proxy.look(|traffic| traffic.effects) > now.before => {
                self.end(proxy)
            }
            _ => None,
        }
    }

    /// All is well from now on, but for connections that stand and will never carry anything again.
    pub fn end(&mut self, proxy: &Proxy) -> Option<&'static str> {
        proxy.behave();
        proxy.heal();
        self.next = Instant::now() + self.chance.ms(0..=40);
        let over = self.now.take()?;
        (proxy.look(|traffic| traffic.effects) > over.before).then_some(over.kind)
    }

    /// One more, which happens while much is under way, and then all is well at once: what it took must be missed by
    /// the program itself, no later fault reminds it.
    pub fn part(&mut self, proxy: &Proxy, kinds: &[&'static str]) -> Option<&'static str> {
        let (kind, before) = (self.chance.pick(kinds), proxy.look(|traffic| traffic.effects));
        match kind {
            "shed" => proxy.shed(1),
            "swallow acks" => proxy.lose_acks(1),
            kind => self.inflict_once(kind, proxy),
        }
        let hit = proxy.wait_until(Instant::now() + LAST_CUE, |traffic| (traffic.effects > before).then_some(kind));
        self.end(proxy);
        hit
    }

    fn begin(&mut self, proxy: &Proxy) {
        if self.deck.is_empty() {
            self.deck.clone_from(&self.kinds);
            self.chance.shuffle(&mut self.deck);
        }
        let kind = self.deck.pop().expect("it was dealt anew");
        let before = proxy.look(|traffic| traffic.effects);
        let lasting = self.inflict(kind, proxy);
        let until = Instant::now() + lasting.unwrap_or(CUE);
        self.now = Some(Blowing { kind, before, until, once: lasting.is_none() });
    }

    /// How long it lasts, if it does not happen once, or a few times in a row.
    fn inflict(&mut self, kind: &str, proxy: &Proxy) -> Option<Duration> {
        let chance = &mut self.chance;
        match kind {
            "delay" => proxy.delay_acks(chance.ms(1..=30)),
            "reorder" => proxy.reverse_acks(chance.ms(1..=20)),
            "throttle" => proxy.throttle(chance.of(2_000..=50_000)),
            "cut" => {
                proxy.cut();
                return Some(chance.ms(5..=60));
            }
            "black hole" => {
                proxy.fall_silent();
                let longest = if chance.one_in(10) { 1_500 } else { 100 };
                return Some(chance.ms(10..=longest));
            }
            "swallow acks" => proxy.lose_acks(chance.of(1..=20)),
            "lose" => proxy.lose_publishes(chance.of(1..=20)),
            "shed" => proxy.shed(chance.of(1..=5)),
            // Whoever takes the second acknowledgement of one for that of another has lost what was shed.
            "shed and double acks" => {
                proxy.shed(chance.of(1..=2));
                proxy.double_acks(chance.of(1..=3));
            }
            "refuse CONNECT" => {
                proxy.refuse_connects(chance.of(1..=3));
                proxy.hiccup();
            }
            "refuse" => {
                let topic = format!("biz/{}", chance.of(0..=self.keys - 1));
                proxy.refuse(&topic, chance.pick(&[0x80, 0x83, 0x97]), chance.of(1..=5));
            }
            _ => {
                self.inflict_once(kind, proxy);
                return None;
            }
        }
        Some(self.chance.ms(20..=80))
    }

    fn inflict_once(&mut self, kind: &str, proxy: &Proxy) {
        let chance = &mut self.chance;
        match kind {
            "hang up" => proxy.hiccup(),
            "reset" => proxy.reset(),
            "truncate" => proxy.truncate_publish(),
            "cut after receipt" => proxy.take_and_break(),
            "half an ack" => proxy.halve_ack(),
            "half-open" => proxy.strand(),
            "double acks" => proxy.double_acks(chance.of(1..=3)),
            "junk" => proxy.say(chance.pick(&JUNK)),
            "DISCONNECT" => proxy.disconnect(chance.pick(&[0x8b, 0x8e, 0x93])),
            other => unreachable!("{other} is no kind"),
        }
    }
}
