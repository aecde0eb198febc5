//! Which topics a subscription means: [MQTT 5, section 4.7].
//!
//! [MQTT 5, section 4.7]: https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html#_Topic_Names_and

use crate::Error;
use crate::message::MAX_TOPIC;

/// A topic filter that keeps the rules: `+` stands for one level, `#` for all that follow and for their parent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TopicFilter(String);

impl TopicFilter {
    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |why: String| Err(Error::Invalid { field: "topic filter", why });
        if text.is_empty() || text.len() > MAX_TOPIC {
            return invalid(format!("is {} bytes long; 1 to {MAX_TOPIC} are allowed", text.len()));
        }
        if text.contains('\0') {
            return invalid("holds NUL, which is not allowed in MQTT".to_owned());
        }
        if text == "$share" || text.starts_with("$share/") {
            return invalid(format!("is {text:?}, a shared subscription, which this broker does not have"));
        }
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.len() > 1 && level.contains(['+', '#']) {
                return invalid(format!("is {text:?}; `+` and `#` must stand alone between slashes, as in `a/+/b`"));
            }
            if level == "#" && levels.peek().is_some() {
                return invalid(format!("is {text:?}; `#` must be the last level, as in `a/#`"));
            }
        }
        Ok(TopicFilter(text.to_owned()))
    }

    pub fn matches(&self, topic: &str) -> bool {
        // A broker keeps its own business under `$`; nobody is to get it by asking for everything (4.7.2).
        if topic.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.split('/');
        for wanted in self.0.split('/') {
            if wanted == "#" {
                return true;
            }
            match levels.next() {
                Some(level) if wanted == "+" || wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::TopicFilter;

    #[test]
    fn filters_match_as_the_mqtt_specification_says() {
        const CASES: [(&str, &str, bool); 38] = [
            // 4.7.1.2, the multi-level wildcard
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/tennis/player1/#", "sport/tennis/player10", false),
            ("sport/#", "sport", true),
            ("sport/#", "sport/", true),
            ("sport/#", "sports", false),
            ("#", "sport", true),
            ("#", "/", true),
            ("sport/tennis/#", "sport/tennis", true),
            // 4.7.1.3, the single-level wildcard
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player2", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+", "sport", true),
            ("+", "sport/tennis", false),
            ("+/tennis/#", "sport/tennis", true),
            ("+/tennis/#", "sport/tennis/a/b", true),
            ("+/tennis/#", "sport/golf", false),
            ("sport/+/player1", "sport/tennis/player1", true),
            ("sport/+/player1", "sport//player1", true),
            ("sport/+/player1", "sport/player1", false),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            // 4.7.2, topics beginning with $
            ("#", "$SYS/monitor/Clients", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/monitor/Clients", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("a/#", "a/$b", true),
            // 4.7.3, semantics
            ("ACCOUNTS", "Accounts", false),
            ("Accounts payable", "Accounts payable", true),
            ("/finance", "finance", false),
            ("finance/", "finance", false),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
            ("ü/+", "ü/ñ", true),
        ];
        for (filter, topic, matches) in CASES {
            assert_eq!(TopicFilter::parse(filter).unwrap().matches(topic), matches, "{filter} and {topic}");
        }
    }

    #[test]
    fn a_filter_that_breaks_the_rules_is_refused_with_the_rule() {
        let long = "x".repeat(65_536);
        let cases = [
            ("", "0 bytes"),
            (long.as_str(), "65536 bytes"),
            ("a\0", "NUL"),
            ("sport/tennis#", "stand alone"),
            ("sport+", "stand alone"),
            ("sport/+tennis", "stand alone"),
            ("##", "stand alone"),
            ("sport/tennis/#/ranking", "last level"),
            ("#/", "last level"),
            ("$share/group/sport", "shared subscription"),
        ];
        for (filter, rule) in cases {
            let said = TopicFilter::parse(filter).unwrap_err().to_string();
            assert!(said.starts_with("the topic filter ") && said.contains(rule), "{said}");
        }
    }
}
