//! The manual against the arguments: each tells of what the other has.

use std::collections::BTreeSet;

use clap::{Arg, Command, CommandFactory};

use super::Args;

const MANUAL: &str = include_str!("../../../../docs/command-line.md");

/// What the manual says of a command.
fn section(name: &str) -> &'static str {
    let (_, section) = MANUAL.split_once(&format!("\n## {name}\n")).unwrap_or_else(|| panic!("no section of {name}"));
    section.split("\n## ").next().unwrap_or(section)
}

/// `--like-this`, wherever it stands but in what other programs are given.
fn flags(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().filter(|line| !line.starts_with("cargo "));
    let parts = lines.flat_map(|line| line.match_indices("--").map(|(at, _)| &line[at..]));
    let ends =
        |rest: &str| rest[2..].find(|c: char| !c.is_ascii_lowercase() && c != '-').map_or(rest.len(), |end| end + 2);
    parts
        .map(|rest| &rest[..ends(rest)])
        .filter(|flag| flag.starts_with("--") && flag.len() > 2 && !flag.starts_with("---"))
        .collect()
}

fn flag(arg: &Arg) -> Option<String> {
    Some(format!("--{}", arg.get_long()?))
}

fn commands() -> Vec<Command> {
    let mut args = Args::command();
    args.build();
    args.get_subcommands().filter(|command| command.get_name() != "help").cloned().collect()
}

#[test]
fn the_manual_tells_of_every_argument_in_the_section_of_its_command() {
    let everywhere = section("Synopsis");
    for command in commands() {
        let name = command.get_name();
        let (told, of_all) = (flags(section(name)), flags(everywhere));
        for flag in command.get_arguments().filter_map(flag) {
            let general = flag == "--help" || flag == "--busy-timeout";
            let told = if general { &of_all } else { &told };
            assert!(told.contains(flag.as_str()), "the section of {name} does not tell of {flag}");
        }
        assert!(everywhere.contains(&format!("`edge-outbox {name} ")), "the synopsis does not have {name}");
    }
}

#[test]
fn the_manual_tells_of_no_argument_that_there_is_not() {
    let all: BTreeSet<_> =
        commands().iter().flat_map(|command| command.get_arguments().filter_map(flag).collect::<Vec<_>>()).collect();
    for flag in flags(MANUAL) {
        assert!(all.contains(flag) || flag == "--version", "{flag}");
    }
}

#[test]
fn the_manual_has_the_defaults_and_the_synopsis_the_order_of_the_help() {
    let of = |text: &'static str| {
        commands().iter().map(|command| text.find(&format!("edge-outbox {} ", command.get_name()))).collect::<Vec<_>>()
    };
    assert!(of(section("Synopsis")).is_sorted());
    let sections =
        commands().iter().map(|command| MANUAL.find(&format!("\n## {}\n", command.get_name()))).collect::<Vec<_>>();
    assert!(sections.is_sorted(), "{sections:?}");
    let forward = commands().into_iter().find(|command| command.get_name() == "forward").expect("forward");
    for arg in forward.get_arguments() {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let default = help.rsplit_once("[default: ").map(|(_, default)| default.trim_end_matches(']'));
        if let (Some(flag), Some(default), Some("Settings")) = (flag(arg), default, arg.get_help_heading()) {
            let row = MANUAL
                .lines()
                .find(|line| line.starts_with(&format!("| `{flag} ")))
                .unwrap_or_else(|| panic!("no row of {flag}"));
            assert!(row.ends_with(&format!("| {default} |")), "{row}: the help says {default}");
        }
    }
}

#[test]
fn what_h_prints_fits_a_screen() {
    for command in commands() {
        let help = command.clone().term_width(100).render_help().to_string();
        assert!(help.lines().count() <= 40, "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    }
}
