//! `armilla config`

use super::Exit;
use super::layers::{self, Layers, Origin};
use super::node::{Output, print_all, print_json};
use super::start::Start;
use clap::{Arg, Subcommand};
use serde_json::{Map, Value, json};

const EXAMPLES: &str = "\
Examples:
  armilla config example > armilla.toml
  armilla config print --config armilla.toml --origin
  ARMILLA_MEMORY=4GiB armilla config print --origin

A setting has one name: the flag --value-limit is ARMILLA_VALUE_LIMIT in the environment and value-limit in the file.
Flags count more than the environment, the environment more than the file, the file more than the default.";

/// Show what a node would be started with, or an example file
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Config {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Print(Box<Print>),
    /// Print a file for --config with every setting, its meaning and its default
    Example,
}

/// Print every setting as `start` would take it from the same flags, environment and file
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
struct Print {
    #[command(flatten)]
    start: Start,
    /// Also where each comes from
    #[arg(long)]
    origin: bool,
    /// How to print them
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

impl Config {
    pub fn run(&self, layers: &Layers) -> Exit {
        match &self.what {
            What::Print(print) => print.run(layers),
            What::Example => print_all(example().as_bytes()),
        }
    }
}

impl Print {
    fn run(&self, layers: &Layers) -> Exit {
        let rows = rows(&self.start, layers);
        match self.output {
            Output::Text => print_all(table(&rows, self.origin).as_bytes()),
            Output::Json => print_json(&object(&rows)),
        }
    }
}

struct Row {
    name: String,
    value: String,
    origin: Origin,
}

fn rows(start: &Start, layers: &Layers) -> Vec<Row> {
    let matches = layers::leaf(&layers.matches);
    let row = |setting: &Arg| {
        let id = setting.get_id().as_str();
        let given = matches.get_raw(id).and_then(|mut values| values.next());
        Row {
            name: setting.get_long().unwrap_or(id).to_owned(),
            value: match (start.with_unit(id), given) {
                (Some(value), _) => value,
                (None, Some(text)) => text.to_string_lossy().into_owned(),
                (None, None) => format!("not set: {}", unset(setting)),
            },
            origin: layers.origin(setting),
        }
    };
    layers::settings().iter().map(row).collect()
}

/// What it means that a setting without a default is not set: its help says so, in brackets.
fn unset(setting: &Arg) -> String {
    let help = help(setting);
    let default = help.rsplit_once("[default: ").map(|(_, rest)| rest);
    default.map_or_else(String::new, |d| d.trim_end_matches(']').to_owned())
}

fn help(setting: &Arg) -> String {
    let help = setting.get_help().map(ToString::to_string);
    help.unwrap_or_default()
}

fn table(rows: &[Row], origin: bool) -> String {
    let width = |text: fn(&Row) -> &str| rows.iter().map(|r| text(r).len()).max().unwrap_or(0);
    let (names, values) = (width(|r| &r.name), width(|r| &r.value));
    let line = |row: &Row| match origin {
        true => format!(
            "{:<names$}  {:<values$}  {}\n",
            row.name, row.value, row.origin
        ),
        false => format!("{:<names$}  {}\n", row.name, row.value),
    };
    rows.iter().map(line).collect()
}

fn object(rows: &[Row]) -> Value {
    let members = rows.iter().map(|row| {
        let value = json!({ "value": row.value, "origin": row.origin.to_string() });
        (row.name.clone(), value)
    });
    Value::Object(members.collect::<Map<_, _>>())
}

/// The annotated example: every setting, commented out, at its default.
fn example() -> String {
    let mut text = "\
# Settings of an Armilla node, for: armilla start --config FILE
#
# Made by 'armilla config example'. Each setting stands here with its default; take the '#' away from what you change.
# Flags count more than the environment (ARMILLA_..), and the environment more than this file. Sizes are written as
# 4096, 64MiB or 1.5GiB; a relative path begins where the node is started.
"
    .to_owned();
    for setting in layers::settings() {
        let name = setting.get_long().unwrap_or_default();
        let default = setting.get_default_values().first();
        let value = match default.and_then(|d| d.to_str()) {
            Some(yes @ ("true" | "false")) => yes.to_owned(),
            Some(text) => Value::from(text).to_string(),
            None => Value::from(sample(&setting)).to_string(),
        };
        let help = help(&setting);
        let variable = layers::environment(&setting);
        text +=
            &format!("\n# {help}.\n# Flag --{name}, environment {variable}.\n#{name} = {value}\n");
    }
    text
}

/// Something to see the shape of a setting without a default by.
fn sample(setting: &Arg) -> String {
    let kind = setting.get_value_names().and_then(|names| names.first());
    match kind.map(|name| name.as_str()) {
        Some("ADDR:PORT") if setting.get_id() == "admin" => "127.0.0.1:7690".to_owned(),
        Some("ADDR:PORT") => "127.0.0.1:7700".to_owned(),
        Some("ADDR:PORT,..") => "127.0.0.1:7700,127.0.0.2:7700,127.0.0.3:7700".to_owned(),
        Some("SIZE") => "100GiB".to_owned(),
        Some("LIST") => "0".to_owned(),
        Some("FILE") => "/etc/armilla.token".to_owned(),
        Some("TOKEN") => "what openssl rand -hex 16 prints".to_owned(),
        _ => String::new(),
    }
}
