//! Cargo, as a shell would start it.

use std::env;
use std::process::Command;

/// Without what cargo sets for the programs that it runs: build scripts would run anew for it, and much be compiled twice.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            cargo.env_remove(name);
        }
    }
    cargo
}
