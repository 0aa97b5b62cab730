//! A second thread that takes a share of large work during a freeze, when the processors are free.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use crate::error::Error;
use crate::shared::lock;

type Job = Box<dyn FnOnce() + Send>;

/// The thread; it ends when this is dropped.
pub(crate) struct Helper {
    jobs: Mutex<Sender<Job>>,
}

struct Work<T, R> {
    todo: Vec<T>,
    active: usize,
    done: Vec<R>,
}

struct Queue<T, R> {
    work: Mutex<Work<T, R>>,
    idle: Condvar,
}

impl<T, R> Queue<T, R> {
    /// Takes items until there are none.
    fn run(&self, act: impl Fn(T) -> R) {
        let mut work = lock(&self.work);
        while let Some(item) = work.todo.pop() {
            work.active += 1;
            drop(work);
            let result = act(item);
            work = lock(&self.work);
            work.active -= 1;
            work.done.push(result);
        }
        drop(work);
        self.idle.notify_all();
    }
}

impl Helper {
    pub(crate) fn start() -> Result<Self, Error> {
        let (jobs, todo) = channel::<Job>();
        let run = move || todo.into_iter().for_each(|job| job());
        thread::Builder::new().name("pager-helper".into()).spawn(run).map_err(Error::system("starting a thread"))?;
        Ok(Self { jobs: Mutex::new(jobs) })
    }

    /// Does `act` for every item, on this thread and the helper, and gives the results in no order. If the helper does not
    /// come in time, this thread does it all.
    pub(crate) fn share<T, R, F>(&self, items: Vec<T>, act: F) -> Vec<R>
    where
        T: Send + 'static,
        R: Send + 'static,
        F: Fn(T) -> R + Send + Sync + 'static,
    {
        let work = Work { todo: items, active: 0, done: Vec::new() };
        let queue = Arc::new(Queue { work: Mutex::new(work), idle: Condvar::new() });
        let act = Arc::new(act);
        let (theirs, their_act) = (Arc::clone(&queue), Arc::clone(&act));
        // Fails only if the helper has died; then we do it all.
        let _ = lock(&self.jobs).send(Box::new(move || theirs.run(|item| their_act(item))));
        queue.run(|item| act(item));
        let mut work = lock(&queue.work);
        while work.active > 0 {
            work = queue.idle.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut work.done)
    }
}
