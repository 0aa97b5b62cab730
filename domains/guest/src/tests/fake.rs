//! A kernel that a test plays.

use crate::Error;
use crate::abi::Message;
use std::cell::RefCell;
use std::rc::Rc;

/// What plays the kernel: it reads the message and its string, writes the second half of the message, and gives the answer's string.
pub(crate) type Kernel = Rc<dyn Fn(&mut Message, &[u8]) -> Vec<u8>>;

thread_local! {
    static KERNEL: RefCell<Option<Kernel>> = const { RefCell::new(None) };
}

/// Lets `kernel` answer what this thread invokes while `body` runs.
pub(crate) fn with<R>(kernel: impl Fn(&mut Message, &[u8]) -> Vec<u8> + 'static, body: impl FnOnce() -> R) -> R {
    let before = KERNEL.replace(Some(Rc::new(kernel)));
    let result = body();
    KERNEL.set(before);
    result
}

pub(crate) fn invoke<R>(message: &mut Message, string: &[u8], take: impl FnOnce(&[u8]) -> R) -> Result<R, Error> {
    let kernel = KERNEL.with_borrow(Clone::clone).ok_or(Error::NoKernel)?;
    let answer = kernel(message, string);
    message.got_string_len = u32::try_from(answer.len()).unwrap();
    Ok(take(&answer))
}

/// What was invoked.
pub(crate) struct Seen {
    pub(crate) message: Message,
    pub(crate) string: Vec<u8>,
}

/// Runs `body`, whose invocations are answered by what `kernel` writes into the message; returns them.
pub(crate) fn record(kernel: impl Fn(&mut Message) + 'static, body: impl FnOnce()) -> Vec<Seen> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = seen.clone();
    with(
        move |message, string| {
            kernel(message);
            log.borrow_mut().push(Seen { message: *message, string: string.to_vec() });
            Vec::new()
        },
        body,
    );
    seen.take()
}
