//! The logs, each as its documentation says that a record is durable when the call returns.

use crate::Outcome;
use redb::{Database, Durability, TableDefinition};
use rusqlite::Connection;
use semper_journal::{Appended, Options, Writer};
use semper_store::{DirFolder, StoreId};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A log that clients share.
pub trait Log: Sync {
    /// One of the clients, in a thread of its own.
    fn client<'a>(&'a self, number: u32) -> Outcome<Box<dyn Client + 'a>>;
}

/// A client of a log.
pub trait Client {
    /// Appends one record; it is durable on return.
    fn append(&mut self, number: u64, bytes: &[u8]) -> Outcome<()>;
}

/// The journal of Semper.
pub struct Journal(Arc<semper_journal::Journal>);

impl Journal {
    pub fn open(dir: &Path) -> Outcome<Box<dyn Log>> {
        let folder = Arc::new(DirFolder::new(&dir.join("journal")));
        Ok(Box::new(Self(semper_journal::Journal::open(folder, StoreId([1; 16]), 0, &Options::default())?)))
    }
}

impl Log for Journal {
    fn client<'a>(&'a self, number: u32) -> Outcome<Box<dyn Client + 'a>> {
        Ok(Box::new((&self.0, Writer { number, born: 0 })))
    }
}

impl Client for (&Arc<semper_journal::Journal>, Writer) {
    fn append(&mut self, number: u64, bytes: &[u8]) -> Outcome<()> {
        match self.0.append(self.1, number, bytes)? {
            Appended::New(_) => Ok(()),
            other => Err(format!("{other:?}").into()),
        }
    }
}

const INSERT: &str = "insert into log (writer, number, bytes) values (?1, ?2, ?3)";

fn connect(path: &Path) -> Outcome<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(60))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

fn create(path: &Path) -> Outcome<Connection> {
    let connection = connect(path)?;
    let mode: String = connection.query_row("pragma journal_mode=wal", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(format!("the journal mode is {mode}").into());
    }
    connection.execute_batch(
        "create table log (sequence integer primary key, writer integer, number integer, bytes blob, unique (writer, number))",
    )?;
    Ok(connection)
}

fn insert(connection: &Connection, writer: u32, number: u64, bytes: &[u8]) -> Outcome<()> {
    let mut statement = connection.prepare_cached(INSERT)?;
    statement.execute((writer, i64::try_from(number)?, bytes))?;
    Ok(())
}

/// SQLite, each client with a connection of its own.
pub struct Sqlite(PathBuf);

impl Sqlite {
    pub fn open(dir: &Path) -> Outcome<Box<dyn Log>> {
        let path = dir.join("log.sqlite");
        create(&path)?;
        Ok(Box::new(Self(path)))
    }
}

impl Log for Sqlite {
    fn client<'a>(&'a self, number: u32) -> Outcome<Box<dyn Client + 'a>> {
        Ok(Box::new((connect(&self.0)?, number)))
    }
}

impl Client for (Connection, u32) {
    fn append(&mut self, number: u64, bytes: &[u8]) -> Outcome<()> {
        insert(&self.0, self.1, number, bytes)
    }
}

/// SQLite, all clients with one connection, so that nobody polls for the lock.
pub struct SharedSqlite(Mutex<Connection>);

impl SharedSqlite {
    pub fn open(dir: &Path) -> Outcome<Box<dyn Log>> {
        Ok(Box::new(Self(Mutex::new(create(&dir.join("log.sqlite"))?))))
    }
}

impl Log for SharedSqlite {
    fn client<'a>(&'a self, number: u32) -> Outcome<Box<dyn Client + 'a>> {
        Ok(Box::new((&self.0, number)))
    }
}

impl Client for (&Mutex<Connection>, u32) {
    fn append(&mut self, number: u64, bytes: &[u8]) -> Outcome<()> {
        insert(&self.0.lock().unwrap_or_else(PoisonError::into_inner), self.1, number, bytes)
    }
}

const TABLE: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("log");

/// redb.
pub struct Redb(Database);

impl Redb {
    pub fn open(dir: &Path) -> Outcome<Box<dyn Log>> {
        Ok(Box::new(Self(Database::create(dir.join("log.redb"))?)))
    }
}

impl Log for Redb {
    fn client<'a>(&'a self, number: u32) -> Outcome<Box<dyn Client + 'a>> {
        Ok(Box::new((&self.0, number)))
    }
}

impl Client for (&Database, u32) {
    fn append(&mut self, number: u64, bytes: &[u8]) -> Outcome<()> {
        let mut transaction = self.0.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.open_table(TABLE)?.insert((self.1, number), bytes)?;
        Ok(transaction.commit()?)
    }
}
