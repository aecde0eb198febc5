//! A file system of its own for a test, as a device has one on its card: it can be filled, stall, fail and wear out.
//!
//! It needs root, and a kernel that lets it mount. Where that is not to be had the test says so and passes.
#![allow(dead_code, reason = "each user includes this file and takes what it needs")]

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use tempfile::TempDir;

const JOURNAL: &str = "has_journal";
const NO_JOURNAL: &str = "^has_journal";

/// Thaws, unmounts and is gone when its input ends, which it does when the test ends, however it ends.
const KEEPER: &str = r#"
    trap '' INT TERM HUP
    cat
    fsfreeze --unfreeze "$0" 2>&-
    umount "$0" 2>&- || umount --lazy "$0"
"#;

/// The same for one that is frozen; but a process that waits for the card cannot end, so this does not wait for ever.
const FREEZER: &str = r#"
    trap '' INT TERM HUP
    fsfreeze --freeze "$0" && echo frozen && timeout 120 cat
    fsfreeze --unfreeze "$0"
"#;

/// Shuts a file system down as a power cut does it, FS_IOC_SHUTDOWN: nothing more goes to the device. What had gone there
/// stays, and so does what is in the device's own memory: of that no loop device can lose anything.
const CUT: &str = "
import fcntl, os, struct, sys
card = os.open(sys.argv[1], os.O_RDONLY)
print('ready', flush=True)
journal = int(sys.stdin.readline() or 0)
if journal:
    fcntl.ioctl(card, 0x8004587D, struct.pack('I', journal))
    print('cut', flush=True)
";

/// What the journal has in memory when the power is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Journal {
    /// Is written: the cut came a moment after it had been.
    Written = 1,
    /// Is lost.
    Lost = 2,
}

/// One that is mounted for as long as this stands.
pub struct Card {
    folder: PathBuf,
    keeper: Option<Child>,
    /// Where it is a file in another one: by the time that goes, this one is unmounted.
    image: Option<PathBuf>,
    options: String,
    below: Option<Box<Card>>,
    _folder: TempDir,
}

impl Card {
    /// In memory, as `/run` and `/tmp` often are.
    pub fn tmpfs(bytes: u64) -> Option<Self> {
        let size = format!("size={bytes}");
        available(Self::mount(&["-t", "tmpfs", "-o", &size, "tmpfs"], None, None))
    }

    /// In memory without a limit, as the root of an initramfs is: it does not tell how much is free.
    pub fn ramfs() -> Option<Self> {
        available(Self::mount(&["-t", "ramfs", "ramfs"], None, None))
    }

    /// On a block device, as cards are.
    pub fn ext4(bytes: u64) -> Option<Self> {
        available(Self::block_device(bytes, JOURNAL, "defaults", None))
    }

    /// The same, or why there is none.
    ///
    /// # Errors
    /// What was in the way: no root, no loop device, no `mkfs`.
    pub fn try_ext4(bytes: u64) -> io::Result<Self> {
        Self::block_device(bytes, JOURNAL, "defaults", None)
    }

    /// XFS, which has at least 300 MB.
    ///
    /// # Errors
    /// As [`try_ext4`](Self::try_ext4).
    pub fn try_xfs(bytes: u64) -> io::Result<Self> {
        let own = tempfile::tempdir()?;
        let image = own.path().join("card.img");
        File::create(&image)?.set_len(bytes)?;
        run("mkfs.xfs", &["-q"], Some(&image))?;
        Self::mount_image(own, image, "defaults", None)
    }

    /// [`tmpfs`](Self::tmpfs), or why there is none.
    ///
    /// # Errors
    /// As [`try_ext4`](Self::try_ext4).
    pub fn try_tmpfs(bytes: u64) -> io::Result<Self> {
        Self::mount(&["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"], None, None)
    }

    /// One that lets itself be written no more after an error, until it is repaired.
    pub fn ext4_read_only_after_errors(bytes: u64) -> Option<Self> {
        available(Self::block_device(bytes, JOURNAL, "errors=remount-ro", None))
    }

    /// One of `bytes`, of which only `real` exist, as of a card that lies about its size or wears out: from
    /// [`wear_out`](Self::wear_out) on its syncs fail. Without a journal, since ext4 lets itself be written no more
    /// when it cannot write that.
    pub fn ext4_with_less_behind(bytes: u64, real: u64) -> Option<Self> {
        let below = Self::tmpfs(real)?;
        available(Self::block_device(bytes, NO_JOURNAL, "errors=continue", Some(below)).inspect(Self::tell_the_truth))
    }

    fn block_device(bytes: u64, journal: &str, options: &str, below: Option<Card>) -> io::Result<Self> {
        let own = tempfile::tempdir()?;
        let image = below.as_ref().map_or(own.path(), Card::folder).join("card.img");
        File::create(&image)?.set_len(bytes)?;
        run("mkfs.ext4", &["-q", "-b", "4096", "-m", "0", "-O", journal], Some(&image))?;
        Self::mount_image(own, image, options, below)
    }

    fn mount_image(own: TempDir, image: PathBuf, options: &str, below: Option<Card>) -> io::Result<Self> {
        let options = format!("loop,{options}");
        let mut card = Self::mount(&["-o", &options, &image.to_string_lossy()], Some((own, image.clone())), below)?;
        card.options = options;
        Ok(card)
    }

    fn mount(what: &[&str], image: Option<(TempDir, PathBuf)>, below: Option<Card>) -> io::Result<Self> {
        let (own, image) = match image {
            Some((own, image)) => (own, Some(image)),
            None => (tempfile::tempdir()?, None),
        };
        let folder = own.path().join("card");
        fs::create_dir(&folder)?;
        run("mount", what, Some(&folder))?;
        let options = String::new();
        let mut card = Card { folder, keeper: None, image, options, below: below.map(Box::new), _folder: own };
        card.keep()?;
        Ok(card)
    }

    fn keep(&mut self) -> io::Result<()> {
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER]).arg(&self.folder).env("PATH", path()).stdin(Stdio::piped()).stdout(Stdio::null());
        keeper.process_group(0); // what is sent to all that the tests started is not for it
        self.keeper = Some(keeper.spawn()?);
        Ok(())
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives every byte that is free to somebody else, until they are dropped.
    pub fn fill(&self) -> Others {
        let others = Others(self.folder.join("others"));
        let mut file = File::create(&others.0).unwrap();
        // In pieces that become smaller: a file system has use for the last ones. What others deleted before is free
        // for good only when ext4 has written its journal.
        for piece in [1 << 20, 64 << 10, 4 << 10, 1 << 10, 1].into_iter().cycle().take(25) {
            let bytes = vec![b'x'; piece];
            while file.write_all(&bytes).is_ok() {}
            let _ = file.sync_all();
        }
        others
    }

    /// The file system finds an error in itself.
    pub fn fail(&self) {
        let device = fs::canonicalize(self.device()).unwrap();
        let name = device.file_name().unwrap().to_string_lossy();
        fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "1").unwrap();
    }

    /// Every write waits, until the answer is dropped.
    pub fn freeze(&self) -> Frozen {
        let mut freezer = Command::new("sh");
        freezer.args(["-c", FREEZER]).arg(&self.folder).env("PATH", path()).process_group(0);
        let mut freezer = freezer.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(freezer.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "frozen\n");
        Frozen(freezer)
    }

    /// What is really there is used up: [`ext4_with_less_behind`](Self::ext4_with_less_behind).
    pub fn wear_out(&self) -> Others {
        self.below.as_ref().unwrap().fill()
    }

    /// Nobody writes to it any more, as on a card that is only looked at. An error while somebody has a file open to write.
    pub fn set_read_only(&self) -> io::Result<()> {
        run("mount", &["-o", "remount,ro"], Some(&self.folder))
    }

    pub fn set_writable(&self) {
        run("mount", &["-o", "remount,rw"], Some(&self.folder)).unwrap();
    }

    /// The same file system in another folder, where it is read-only: as containers are given it.
    pub fn read_only_window(&self) -> Option<Self> {
        let window = Self::mount(&["--bind", &self.folder.to_string_lossy()], None, None).and_then(|window| {
            run("mount", &["-o", "remount,ro,bind"], Some(&window.folder))?;
            Ok(window)
        });
        available(window)
    }

    /// Unmounts it, which nobody may use any more, checks and repairs it, and mounts it again.
    pub fn repair(&mut self) {
        self.unmount();
        let image = self.image.clone().unwrap();
        // 1 says that there was something to repair
        let fsck = Command::new("fsck.ext4").arg("-fy").arg(&image).env("PATH", path()).output().unwrap();
        assert!(matches!(fsck.status.code(), Some(0 | 1)), "{fsck:?}");
        run("mount", &["-o", "loop", &image.to_string_lossy()], Some(&self.folder)).unwrap();
        self.keep().unwrap();
    }

    /// A hand at its plug.
    ///
    /// # Errors
    /// Where there is no Python.
    pub fn plug(&self) -> io::Result<Plug> {
        let mut python = Command::new("python3");
        python.args(["-c", CUT]).arg(&self.folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = python.spawn().map_err(|why| io::Error::other(format!("python3: {why}")))?;
        let says = BufReader::new(process.stdout.take().expect("it was asked for"));
        let mut plug = Plug { process, says };
        plug.expect("ready").map(|()| plug)
    }

    /// Power is back: mounts it again, for which its journal is played. Whoever used it is dead by now.
    ///
    /// # Errors
    /// What `mount` says.
    pub fn mount_again(&mut self) -> io::Result<()> {
        self.unmount();
        let image = self.image.clone().expect("one with an image");
        run("mount", &["-o", &self.options, &image.to_string_lossy()], Some(&self.folder))?;
        self.keep()
    }

    /// Linux takes a write to a loop device for done when only the front of it is. Where it writes page by page there
    /// is no front.
    fn tell_the_truth(&self) {
        let device = self.device();
        let name = device.file_name().unwrap().to_string_lossy();
        fs::write(format!("/sys/block/{name}/queue/max_sectors_kb"), "4").unwrap();
    }

    fn device(&self) -> PathBuf {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let folder = self.folder.to_string_lossy();
        let device = mounts.lines().find_map(|line| {
            let mut words = line.split(' ');
            let device = words.next()?;
            (words.next()? == folder).then(|| PathBuf::from(device))
        });
        let device = device.unwrap();
        // What `mount` shows for a loop device may be the file behind it.
        if device.starts_with("/dev") { device } else { loop_device(&device) }
    }

    fn unmount(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        self.unmount();
    }
}

/// A process that can shut the file system down at once.
pub struct Plug {
    process: Child,
    says: BufReader<ChildStdout>,
}

impl Plug {
    /// Power is gone when this returns.
    ///
    /// # Errors
    /// Where the kernel does not do that.
    pub fn pull(mut self, journal: Journal) -> io::Result<()> {
        writeln!(self.process.stdin.as_mut().expect("it was asked for"), "{}", journal as i32)?;
        self.expect("cut")
    }

    fn expect(&mut self, word: &str) -> io::Result<()> {
        let mut said = String::new();
        self.says.read_line(&mut said)?;
        if said.trim_end() == word { Ok(()) } else { Err(io::Error::other(format!("no {word}: {said:?}"))) }
    }
}

/// Not pulled, or done: it ends with its input.
impl Drop for Plug {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// A file of somebody else's; gone when this is dropped.
pub struct Others(PathBuf);

impl Others {
    /// They give so many bytes back.
    pub fn shrink(&self, bytes: u64) {
        let file = File::options().write(true).open(&self.0).unwrap();
        file.set_len(file.metadata().unwrap().len().saturating_sub(bytes)).unwrap();
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Thaws when it is dropped.
pub struct Frozen(Child);

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn loop_device(image: &Path) -> PathBuf {
    let mut losetup = Command::new("losetup");
    let found = losetup.args(["--noheadings", "-O", "NAME", "-j"]).arg(image).env("PATH", path()).output().unwrap();
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim())
}

/// Debian keeps these programs in sbin, which is not in everybody's PATH.
fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

fn run(program: &str, arguments: &[&str], last: Option<&Path>) -> io::Result<()> {
    // The first line says it; what follows sends the reader elsewhere.
    let failed = |why: String| io::Error::other(format!("{program}: {}", why.lines().next().unwrap_or("no word")));
    let mut command = Command::new(program);
    let ran = command.args(arguments).args(last).env("PATH", path()).stdin(Stdio::null()).output();
    let ran = ran.map_err(|error| failed(error.to_string()))?;
    if ran.status.success() { Ok(()) } else { Err(failed(String::from_utf8_lossy(&ran.stderr).trim().to_owned())) }
}

fn available(card: io::Result<Card>) -> Option<Card> {
    card.map_err(|why| {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        // Not by eprintln!, which the harness keeps for itself when a test passes.
        let _ = writeln!(io::stderr(), "SKIPPED {test}: no file system of its own for it: {why}");
    })
    .ok()
}
