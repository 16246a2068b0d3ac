//! An event as a line: a sentence for people, an object for programs.

use super::{Event, Field};
use std::time::SystemTime;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Time, level, message.
    Human,
    /// One JSON object, with all fields.
    Json,
}

/// Ends with a line feed and holds no other, whatever a message quotes.
pub(super) fn line(at: SystemTime, event: &Event, format: Format) -> String {
    let time = humantime::format_rfc3339_millis(at);
    match format {
        Format::Human => {
            let visible = |c: char| if c.is_control() { ' ' } else { c };
            let message: String = event.message.chars().map(visible).collect();
            format!("{time} {:<5} {message}\n", event.level.name())
        }
        Format::Json => {
            // By hand, so that the members stand in one order: what, then the rest.
            let head = [
                ("time", quoted(&time.to_string())),
                ("level", quoted(event.level.name())),
                ("event", quoted(event.name)),
                ("message", quoted(&event.message)),
            ];
            let fields = event.fields.iter().map(|(name, field)| match field {
                Field::Number(number) => (*name, number.to_string()),
                Field::Text(text) => (*name, quoted(text)),
            });
            let members: Vec<String> = head
                .into_iter()
                .chain(fields)
                .map(|(name, value)| format!("{}:{value}", quoted(name)))
                .collect();
            format!("{{{}}}\n", members.join(","))
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use std::time::Duration;

    fn event() -> Event {
        Event::new(Level::Warn, "x", "said \"a\"\nand\x1b[2J more")
            .with("count", 7)
            .with("who", "b\\c".to_owned())
    }

    fn at() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_600_123)
    }

    #[test]
    fn people_get_a_sentence() {
        assert_eq!(
            line(at(), &event(), Format::Human),
            "2026-01-01T00:00:00.123Z warn  said \"a\" and [2J more\n"
        );
    }

    #[test]
    fn programs_get_an_object() {
        let line = line(at(), &event(), Format::Json);
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1);
        let object: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(object["time"], "2026-01-01T00:00:00.123Z");
        assert_eq!(object["level"], "warn");
        assert_eq!(object["event"], "x");
        assert_eq!(object["message"], event().message);
        assert_eq!(object["count"], 7);
        assert_eq!(object["who"], "b\\c");
    }
}
