//! The terminal that standard output may be: how large it is, and drawing on it in place.

use std::env;
use std::io::{self, IsTerminal, Write};

use crate::output::cut;

/// How many characters a line may have: as many as COLUMNS says or the terminal has, and any number in a file or a pipe.
pub fn width() -> Option<usize> {
    let told = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    told.filter(|columns| *columns > 0).or_else(|| size().map(|(columns, _)| columns))
}

/// Columns and rows; `None` where there is no terminal.
fn size() -> Option<(usize, usize)> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    Some(size.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into())))
}

/// The terminal's other screen: what stood there is there again at the end.
pub struct Screen;

impl Screen {
    /// `None` where standard output is no terminal, or one that understands nothing.
    pub fn enter() -> io::Result<Option<Self>> {
        if size().is_none() || env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb") {
            return Ok(None);
        }
        let screen = Screen;
        print("\x1b[?1049h\x1b[?25l")?;
        Ok(Some(screen))
    }

    /// Written over what stands there, so that nothing flickers.
    pub fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let (columns, rows) = size().unwrap_or((80, 24));
        let shown: Vec<_> = lines.iter().take(rows).map(|line| format!("{}\x1b[K", cut(line, columns))).collect();
        print(&format!("\x1b[H{}\x1b[J", shown.join("\r\n")))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = print("\x1b[?25h\x1b[?1049l");
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
