//! A generation that stays readable while a command reads it, whether or not a runtime commits meanwhile.

use std::path::Path;

use semper::control::{Connection, ControlError, Reply, Request};
use semper_store::{Generation, OpenOptions, Store};

use super::Failure;
use super::failure::code;

/// A store to read, and generations of it that stay.
pub struct Held {
    /// For reading only, beside a runtime; else it is open as by one, so that none starts meanwhile.
    pub store: Store,
    /// In the order in which they were asked for.
    pub generations: Vec<Generation>,
    /// To the runtime, which keeps them until these end.
    connections: Vec<Connection>,
}

impl Held {
    /// Gives one of them a name, which keeps it.
    ///
    /// # Errors
    /// Those of `semper tag`.
    pub fn tag(&self, dir: &Path, name: &str, generation: Generation) -> Result<(), Failure> {
        if !self.by_runtime() {
            return Ok(self.store.tag(name, generation)?);
        }
        ask(dir, &Request::Tag { name: name.to_owned(), generation: Some(generation.0) })
    }

    /// Whether a runtime holds them.
    pub fn by_runtime(&self) -> bool {
        !self.connections.is_empty()
    }
}

/// Has a runtime do something, and waits until it is done.
pub fn ask(dir: &Path, request: &Request) -> Result<(), Failure> {
    match Connection::open(dir).and_then(|connection| connection.ask(request)) {
        Ok(Reply::Generation { .. } | Reply::Done) => Ok(()),
        Ok(other) => Err(Failure::control(dir, ControlError::Unexpected(Box::new(other)))),
        Err(error) => Err(Failure::control(dir, error)),
    }
}

/// For commands on a store at rest.
pub fn refuse_running(dir: &Path) -> Result<(), Failure> {
    if Connection::open(dir).is_err() {
        return Ok(());
    }
    let shown = dir.display();
    let told = format!("a runtime is running on {shown}; stop it first: semper stop {shown}");
    Err(Failure::new(code::IN_USE, told))
}

/// As [`open`], but a store at rest is only read and can be resumed meanwhile: then the generations may go.
pub fn open_beside(dir: &Path, which: &[Option<&str>]) -> Result<Held, Failure> {
    match Connection::open(dir) {
        Err(ControlError::NotRunning) => at_rest(dir, Store::open_read_only(dir)?, which),
        _ => open(dir, which),
    }
}

/// Opens the store in `dir` and holds generations of it, each named by its number or tag; none: the newest.
pub fn open(dir: &Path, which: &[Option<&str>]) -> Result<Held, Failure> {
    match Connection::open(dir) {
        Ok(first) => {
            let store = Store::open_read_only(dir)?;
            let (mut generations, mut connections) = (Vec::new(), vec![first]);
            for name in which {
                let generation = name.map(|name| find(dir, &store, name)).transpose()?;
                let connection = match connections.pop() {
                    Some(unused) if generations.is_empty() => unused,
                    other => {
                        connections.extend(other);
                        Connection::open(dir).map_err(|error| Failure::control(dir, error))?
                    }
                };
                generations.push(hold(dir, &connection, generation)?);
                connections.push(connection);
            }
            store.refresh()?;
            Ok(Held { store, generations, connections })
        }
        Err(ControlError::NotRunning) => at_rest(dir, Store::open(dir, &OpenOptions::default())?, which),
        Err(error) => Err(Failure::control(dir, error)),
    }
}

fn at_rest(dir: &Path, store: Store, which: &[Option<&str>]) -> Result<Held, Failure> {
    let chosen = |name: &Option<&str>| name.map_or_else(|| Ok(store.generation()), |name| find(dir, &store, name));
    let generations = which.iter().map(chosen).collect::<Result<_, Failure>>()?;
    Ok(Held { store, generations, connections: Vec::new() })
}

fn hold(dir: &Path, connection: &Connection, generation: Option<Generation>) -> Result<Generation, Failure> {
    let request = Request::Hold { generation: generation.map(|generation| generation.0) };
    match connection.ask(&request).map_err(|error| Failure::control(dir, error))? {
        Reply::Generation { generation } => Ok(Generation(generation)),
        other => Err(Failure::control(dir, ControlError::Unexpected(Box::new(other)))),
    }
}

/// The generation with this number or tag, which is kept.
pub fn find(dir: &Path, store: &Store, name: &str) -> Result<Generation, Failure> {
    let kept = store.generations();
    let generation = match name.parse() {
        Ok(number) => Generation(number),
        Err(_) => {
            let tags = Store::tags_in(dir);
            let tag = tags.iter().find(|tag| tag.name == name).ok_or_else(|| {
                let shown = dir.display();
                let told = format!("{shown} has no tag `{name}`; semper generations {shown} lists what there is");
                Failure::new(code::NOT_FOUND, told)
            })?;
            tag.generation
        }
    };
    if kept.iter().any(|kept| kept.generation == generation) {
        return Ok(generation);
    }
    let list: Vec<String> = kept.iter().map(|kept| kept.generation.0.to_string()).collect();
    let told = format!("{generation} is not kept in {} (kept: {})", dir.display(), list.join(", "));
    Err(Failure::new(code::NOT_FOUND, told))
}
