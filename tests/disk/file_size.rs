//! A process may not make files larger than its limit (`ulimit -f`, `LimitFSIZE=` of systemd): the kernel kills it by
//! SIGXFSZ, or, if it ignores that, answers with an error.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::device::Device;
use crate::program::Program;

const SIGXFSZ: i32 = 25;

/// Limits what the files of a process may have from now on.
fn limit(program: &mut Program, bytes: &str) {
    let pid = program.process().pid().to_string();
    let set = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:")]).status().unwrap();
    assert!(set.success());
}

#[test]
fn a_program_killed_by_its_limit_on_file_sizes_loses_nothing() {
    let device = Device::new();
    Program::install(&device);
    let mut program = Program::start(&device);
    program.write();
    limit(&mut program, "200000");
    while program.write_or_die("write").is_some() {}
    assert_eq!(program.process().wait().signal(), Some(SIGXFSZ));
    let mut program = Program::start_again(&device, program);
    program.write();
    assert_eq!(program.ask("flush"), "Ok(())");
    program.judge(&crate::program::readings(&device.sql()));
    program.end();
}

#[test]
fn a_program_that_ignores_the_signal_is_told_by_errors_and_goes_on_when_the_limit_is_lifted() {
    let device = Device::new();
    Program::install(&device);
    let mut program = Program::start_after("trap '' XFSZ", &device);
    program.write();
    limit(&mut program, "200000");
    program.write_until("the limit", |answer| answer.starts_with("MaybeCommitted"));
    let answer = program.try_write_large();
    assert!(answer.starts_with("Disk("), "{answer}");
    limit(&mut program, "unlimited");
    program.write();
    assert_eq!(program.try_write_large(), "written");
    program.settles(&device);
    program.end();
}
