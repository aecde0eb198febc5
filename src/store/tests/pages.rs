//! Where in a database file a row stands: as <https://www.sqlite.org/fileformat2.html> says.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

/// A database file that nobody has open, with everything in it that was in its log.
pub struct Pages {
    path: PathBuf,
    pub bytes: Vec<u8>,
    pub size: usize,
}

/// A leaf of a table's tree.
#[derive(Clone, Debug)]
pub struct Leaf {
    pub page: usize,
    pub cells: Vec<Cell>,
}

#[derive(Clone, Debug)]
#[allow(dead_code, reason = "only one of the two test binaries that share this moves ids")]
pub struct Cell {
    pub id: i64,
    /// Where in the file the id stands.
    pub id_at: usize,
    /// The pages behind the one that it stands on.
    pub overflow: Vec<usize>,
}

impl Pages {
    /// Closes the log first.
    pub fn of(path: &Path) -> Self {
        let conn = Connection::open(path).unwrap();
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let size: i64 = conn.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
        drop(conn);
        Pages { path: path.to_owned(), bytes: fs::read(path).unwrap(), size: size as usize }
    }

    pub fn root(&self, name: &str) -> usize {
        let conn = Connection::open(&self.path).unwrap();
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        conn.query_row(sql, [name], |row| row.get::<_, i64>(0)).unwrap() as usize
    }

    pub fn leaves(&self, root: usize) -> Vec<Leaf> {
        let header = (root - 1) * self.size + if root == 1 { 100 } else { 0 };
        let cells = self.u16(header + 3);
        let pointers = header + if self.bytes[header] == 5 { 12 } else { 8 };
        let at = |cell: usize| (root - 1) * self.size + self.u16(pointers + 2 * cell);
        match self.bytes[header] {
            5 => {
                let children = (0..cells).map(|cell| self.u32(at(cell))).chain([self.u32(header + 8)]);
                children.flat_map(|child| self.leaves(child)).collect()
            }
            13 => vec![Leaf { page: root, cells: (0..cells).map(|cell| self.cell(at(cell))).collect() }],
            kind => panic!("page {root} is no page of a table: {kind}"),
        }
    }

    /// The row's leaf and cell.
    pub fn find(&self, table: &str, id: i64) -> (usize, Cell) {
        let leaves = self.leaves(self.root(table));
        let found = leaves.iter().find_map(|leaf| Some((leaf.page, leaf.cells.iter().find(|cell| cell.id == id)?)));
        let (page, cell) = found.expect("the row stands in the file");
        (page, cell.clone())
    }

    pub fn overwrite(&mut self, page: usize) {
        let size = self.size;
        self.bytes[(page - 1) * size..page * size].fill(0xa5);
    }

    pub fn save(&self) {
        fs::write(&self.path, &self.bytes).unwrap();
    }

    fn cell(&self, at: usize) -> Cell {
        let (length, id_at) = self.varint(at);
        let (id, begin) = self.varint(id_at);
        let length = length as usize;
        let most = self.size - 35;
        let least = (self.size - 12) * 32 / 255 - 23;
        let mut overflow = Vec::new();
        if length > most {
            let local = least + (length - least) % (self.size - 4);
            let mut next = self.u32(begin + if local <= most { local } else { least });
            while next != 0 {
                overflow.push(next);
                next = self.u32((next - 1) * self.size);
            }
        }
        Cell { id, id_at, overflow }
    }

    fn u16(&self, at: usize) -> usize {
        usize::from(u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]))
    }

    fn u32(&self, at: usize) -> usize {
        u32::from_be_bytes(self.bytes[at..at + 4].try_into().unwrap()) as usize
    }

    /// A number, and where it ends. None here is longer than eight bytes.
    fn varint(&self, mut at: usize) -> (i64, usize) {
        let mut value = 0;
        loop {
            value = value << 7 | i64::from(self.bytes[at] & 0x7f);
            at += 1;
            if self.bytes[at - 1] < 0x80 {
                return (value, at);
            }
        }
    }
}
