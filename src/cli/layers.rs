//! Where a setting comes from: flags over `ARMILLA_*` over the file of `--config` over defaults.
//!
//! The flags of `start` are the list of all settings. A key of the file is the name of a flag; its value goes through
//! the parser of the flag, and then becomes the flag's default: so clap itself puts the layers on top of each other.

use super::config_file::{self, Entry};
use super::start::Start;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// The flag that names the file; the only one that the file itself does not know.
const CONFIG: &str = "config";
const PREFIX: &str = "ARMILLA_";

/// Every setting, as the flag that sets it.
pub(super) fn settings() -> Vec<Arg> {
    let command = Start::augment_args(Command::new("settings"));
    let flags = command.get_arguments().filter(|arg| arg.get_id() != CONFIG);
    flags.cloned().collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Default,
    File { path: PathBuf, line: usize },
    Environment(String),
    Flag(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) => f.write_str(name),
            Origin::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// The arguments of this process and the file they name, read.
pub(super) struct Layers {
    pub matches: ArgMatches,
    file: PathBuf,
    entries: BTreeMap<String, Entry>,
}

/// Why the arguments mean nothing.
pub(super) enum Refused {
    /// Of clap, which prints it itself; also its help.
    Arguments(clap::Error),
    /// Of the file or a variable: one line that begins with the place.
    Setting(String),
}

impl Layers {
    pub fn read(command: Command, arguments: Vec<OsString>) -> Result<Layers, Refused> {
        let parse = |command: Command| {
            let matches = command.try_get_matches_from(&arguments);
            matches.map_err(|error| match blamed_variable(&error) {
                Some(message) => Refused::Setting(message),
                None => Refused::Arguments(error),
            })
        };
        let matches = parse(command.clone())?;
        let Some(file) = config(&matches) else {
            return Ok(Layers {
                matches,
                file: PathBuf::new(),
                entries: BTreeMap::new(),
            });
        };
        let entries = config_file::read(&file, &settings()).map_err(Refused::Setting)?;
        Ok(Layers {
            matches: parse(with_defaults(command, &matches, &entries))?,
            file,
            entries,
        })
    }

    /// Of a setting of the verb that was called.
    pub fn origin(&self, setting: &Arg) -> Origin {
        let id = setting.get_id().as_str();
        let flag = setting.get_long().unwrap_or(id);
        match leaf(&self.matches).value_source(id) {
            Some(ValueSource::CommandLine) => Origin::Flag(flag.to_owned()),
            Some(ValueSource::EnvVariable) => Origin::Environment(environment(setting)),
            _ => match self.entries.get(id) {
                Some(entry) => Origin::File {
                    path: self.file.clone(),
                    line: entry.line,
                },
                None => Origin::Default,
            },
        }
    }
}

/// clap blames the flag even where the value came from the environment.
fn blamed_variable(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(blamed)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let flag = blamed
        .split([' ', '[', '='])
        .next()?
        .trim_start_matches("--");
    let settings = settings();
    let setting = settings.iter().find(|s| s.get_long() == Some(flag))?;
    let name = environment(setting);
    let text = std::env::var(&name).ok()?;
    let why = check_value(setting, &text).err()?;
    Some(format!("{name}={text}: {why}"))
}

pub(super) fn environment(setting: &Arg) -> String {
    let name = setting.get_env().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The matches of the innermost verb.
pub(super) fn leaf(matches: &ArgMatches) -> &ArgMatches {
    match matches.subcommand() {
        Some((_, inner)) => leaf(inner),
        None => matches,
    }
}

fn config(matches: &ArgMatches) -> Option<PathBuf> {
    let named = leaf(matches).try_get_one::<PathBuf>(CONFIG);
    named.ok().flatten().cloned()
}

/// The verb that was called, with what the file says as its defaults.
fn with_defaults(
    mut command: Command,
    matches: &ArgMatches,
    entries: &BTreeMap<String, Entry>,
) -> Command {
    if let Some((name, inner)) = matches.subcommand() {
        return command.mut_subcommand(name, |verb| with_defaults(verb, inner, entries));
    }
    for (id, entry) in entries {
        command = command.mut_arg(id, |flag| flag.default_value(entry.text.clone()));
    }
    command
}

/// Variables that look like a slip of the pen. Others with our prefix are let be: Kubernetes makes some of its own for
/// a service that bears our name.
pub(super) fn misspelt_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let mut known: Vec<String> = settings().iter().map(environment).collect();
    known.extend(["ARMILLA_CONFIG".to_owned(), "ARMILLA_SERVER".to_owned()]);
    let names = names.filter_map(|name| name.into_string().ok());
    names
        .filter(|name| name.starts_with(PREFIX) && !known.contains(name))
        .filter_map(|name| {
            let meant = config_file::closest(&name, known.iter().map(String::as_str))?;
            Some(format!(
                "the environment variable {name} sets nothing; did you mean {meant}?"
            ))
        })
        .collect()
}

/// Checks `text` as clap would check it behind the flag; the reason without clap's frame.
pub(super) fn check_value(setting: &Arg, text: &str) -> Result<(), String> {
    let flag = format!("--{}={text}", setting.get_long().unwrap_or_default());
    // The environment has its say later.
    let alone = Command::new("setting").arg(setting.clone().env(None::<&str>));
    match alone.try_get_matches_from(["setting", &flag]) {
        Ok(_) => Ok(()),
        Err(error) => Err(why(&error)),
    }
}

fn why(error: &clap::Error) -> String {
    if let Some(source) = std::error::Error::source(error) {
        return source.to_string();
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(valid)) if !valid.is_empty() => {
            format!("write {}", valid.join(" or "))
        }
        _ => error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_one_name_in_all_layers() {
        for setting in settings() {
            let flag = setting.get_long().expect("a setting has a flag");
            let variable = format!("{PREFIX}{}", flag.to_uppercase().replace('-', "_"));
            assert_eq!(environment(&setting), variable);
            assert!(setting.get_help().is_some(), "--{flag} explains nothing");
        }
    }

    #[test]
    fn a_slip_in_a_variable_is_told_and_strangers_are_let_be() {
        let names = |names: &[&str]| misspelt_variables(names.iter().map(OsString::from));
        let told = names(&["ARMILLA_MEMROY", "ARMILLA_MEMORY", "PATH"]);
        assert_eq!(told.len(), 1);
        assert!(
            told[0].ends_with("did you mean ARMILLA_MEMORY?"),
            "{told:?}"
        );
        let kubernetes = ["ARMILLA_SERVICE_HOST", "ARMILLA_PORT_7700_TCP_ADDR"];
        assert_eq!(names(&kubernetes).len(), 0);
    }
}
