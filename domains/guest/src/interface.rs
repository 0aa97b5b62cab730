//! Typed clients and servers from one definition.

use crate::keys::{Key, Start};
use crate::wire::{Incoming, Malformed, Outgoing, Take};
use crate::{Call, Error, Reply, Request};
use core::convert::Infallible;
use core::fmt;

/// The answer of a server that has no such order, or to which the arguments mean nothing.
const NOT_UNDERSTOOD: u32 = 0x7fff_ffff;
/// The answer of a server whose result is too large for a message.
const RESULT_TOO_LARGE: u32 = 0x7fff_fffe;

/// How the methods of an interface fail. [`failures!`](crate::failures!) makes such a type.
pub trait Failure: Sized {
    /// The answer code: 1 to `0x7fff_0000`.
    fn code(&self) -> u32;
    /// The failure of this code.
    fn from_code(code: u32) -> Option<Self>;
}

/// Methods that do not fail.
impl Failure for Infallible {
    fn code(&self) -> u32 {
        match *self {}
    }

    fn from_code(_: u32) -> Option<Self> {
        None
    }
}

/// What is wrong between client and server: they are not of one interface, or a message is too small for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unexpected {
    /// The arguments are too large for a message. Nothing was sent.
    ArgumentsTooLarge,
    /// The result is too large for a message. The method was run.
    ResultTooLarge,
    /// The server has no such order, or the arguments mean nothing to it.
    NotUnderstood,
    /// The answer means nothing to the client.
    Answer,
}

impl fmt::Display for Unexpected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ArgumentsTooLarge => "the arguments are too large for a message",
            Self::ResultTooLarge => "the result is too large for a message",
            Self::NotUnderstood => "the server does not understand the order",
            Self::Answer => "the answer cannot be understood",
        })
    }
}

/// Why a call through an interface gave nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallError<F> {
    /// The server refused.
    Refused(F),
    /// The kernel did.
    Kernel(Error),
    /// Client and server do not agree.
    Unexpected(Unexpected),
}

impl<F: fmt::Display> fmt::Display for CallError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(failure) => failure.fmt(f),
            Self::Kernel(error) => error.fmt(f),
            Self::Unexpected(unexpected) => unexpected.fmt(f),
        }
    }
}

impl<F: fmt::Display + fmt::Debug> core::error::Error for CallError<F> {}

impl<F> From<Error> for CallError<F> {
    fn from(error: Error) -> Self {
        Self::Kernel(error)
    }
}

/// Who called a method of a server, and what becomes of the server after it.
#[derive(Debug)]
pub struct Caller {
    /// The badge of the start key by which the call came.
    pub badge: u64,
    /// Whether the server ends after this call.
    pub end: bool,
}

/// A call of a client's: used by [`interface!`](crate::interface!).
#[doc(hidden)]
pub fn call<F: Failure, R>(
    start: &Start,
    order: u32,
    keys: usize,
    arguments: Result<Outgoing, crate::wire::DoesNotFit>,
    take: impl FnOnce(&mut Incoming<'_>) -> Result<R, Malformed>,
) -> Result<R, CallError<F>> {
    let unexpected = |what| CallError::Unexpected(what);
    let out = arguments.map_err(|_| unexpected(Unexpected::ArgumentsTooLarge))?;
    let mut call = Call::new(start.slot(), order).words(out.words()).string(out.string());
    for (n, key) in out.keys().iter().enumerate() {
        if let Some(key) = key {
            call = call.key(n, key);
        }
    }
    for n in 0..keys.min(4) {
        call = call.accept(n)?;
    }
    let mut answer = call.call()?;
    match answer.code {
        0 => {}
        RESULT_TOO_LARGE => return Err(unexpected(Unexpected::ResultTooLarge)),
        code => {
            return Err(F::from_code(code)
                .map_or_else(|| unexpected(Unexpected::NotUnderstood), |failure| CallError::Refused(failure)));
        }
    }
    let mut incoming = Incoming::new(answer.words, &answer.string, &mut answer.keys);
    take(&mut incoming).map_err(|_| unexpected(Unexpected::Answer))
}

/// An answer of a server's: used by [`interface!`](crate::interface!).
#[doc(hidden)]
pub fn answer<F: Failure, R: crate::wire::Put>(caller: &Caller, result: Result<Result<R, F>, Malformed>) -> Reply {
    let mut reply = match result {
        Err(Malformed) => Reply::code(NOT_UNDERSTOOD),
        Ok(Err(failure)) => Reply::code(failure.code()),
        Ok(Ok(value)) => {
            let mut out = Outgoing::new();
            match value.put(&mut out) {
                Ok(()) => out.into_reply(),
                Err(_) => Reply::code(RESULT_TOO_LARGE),
            }
        }
    };
    reply.last = caller.end;
    reply
}

/// Where a method's arguments are: used by [`interface!`](crate::interface!).
#[doc(hidden)]
pub fn incoming<'a>(request: &'a mut Request<'_>) -> Incoming<'a> {
    Incoming::new(request.words, request.string, &mut request.keys)
}

/// The answer to an order that there is not: used by [`interface!`](crate::interface!).
#[doc(hidden)]
pub fn no_such_order() -> Reply {
    Reply::code(NOT_UNDERSTOOD)
}

/// The keys that a type takes, where its lifetime does not matter.
#[doc(hidden)]
#[must_use]
pub const fn keys_of<'a, T: Take<'a>>() -> usize {
    T::KEYS
}

/// The failures of an interface, by answer code and message.
///
/// ```
/// semper_domain::failures! {
///     /// Why an account does not do something.
///     pub enum AccountFailure {
///         /// There is not enough money.
///         Short = 1, "there is not enough money";
///     }
/// }
/// assert_eq!(AccountFailure::Short.to_string(), "there is not enough money");
/// ```
#[macro_export]
macro_rules! failures {
    ($(#[$doc:meta])* $vis:vis enum $name:ident {
        $($(#[$variant_doc:meta])* $variant:ident = $code:literal, $text:literal;)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        $vis enum $name {
            $($(#[$variant_doc])* $variant = $code,)*
        }

        impl $crate::Failure for $name {
            fn code(&self) -> u32 {
                match self { $(Self::$variant => $code,)* }
            }

            fn from_code(code: u32) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }

        impl ::core::fmt::Display for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)* })
            }
        }
    };
}

/// An interface: the trait that a server implements, with `serve`, and the client that calls it.
///
/// Methods are numbered by their order codes. Arguments and results are those of [`wire`](crate::wire): numbers, texts, bytes, keys,
/// and options and tuples of them. What a method gives must own what it holds: `String`, not `&str`. Keys are given away; to keep
/// one, give a [copy](crate::keys::Key::copy).
///
/// ```
/// use semper_domain::{Caller, failures, interface};
///
/// failures! {
///     /// Why it does not count.
///     pub enum CounterFailure {
///         /// The sum would not fit.
///         Overflow = 1, "the sum is too large";
///     }
/// }
///
/// interface! {
///     /// Something that counts.
///     pub trait Counter, client CounterClient, fails CounterFailure {
///         /// Adds, and gives the sum.
///         1 => fn add(n: u64) -> u64;
///         /// What is counted.
///         2 => fn name() -> String;
///     }
/// }
///
/// struct Apples(u64);
///
/// impl Counter for Apples {
///     fn add(&mut self, _: &mut Caller, n: u64) -> Result<u64, CounterFailure> {
///         self.0 = self.0.checked_add(n).ok_or(CounterFailure::Overflow)?;
///         Ok(self.0)
///     }
///
///     fn name(&mut self, _: &mut Caller) -> Result<String, CounterFailure> {
///         Ok("apples".into())
///     }
/// }
/// ```
///
/// The server then runs `Apples(0).serve()`; a client that holds a start key to it, `CounterClient::from(start).add(2)`.
#[macro_export]
macro_rules! interface {
    ($(#[$doc:meta])* $vis:vis trait $name:ident, client $client:ident, fails $failure:ty {
        $($(#[$method_doc:meta])* $code:literal => fn $method:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)?;)*
    }) => {
        $(#[$doc])*
        $vis trait $name {
            $(
                $(#[$method_doc])*
                ///
                /// # Errors
                /// Those that the interface names; the caller gets them.
                #[allow(clippy::too_many_arguments)]
                fn $method(&mut self, caller: &mut $crate::Caller $(, $argument: $type)*)
                    -> ::core::result::Result<$crate::__result!($($result)?), $failure>;
            )*

            /// Answers one request.
            #[allow(clippy::redundant_closure_call)]
            fn answer(&mut self, request: &mut $crate::Request<'_>) -> $crate::Reply {
                let mut caller = $crate::Caller { badge: request.badge, end: false };
                match request.order {
                    $($code => {
                        let mut incoming = $crate::incoming(request);
                        let _ = &mut incoming;
                        let result = (|| {
                            $(let $argument = <$type as $crate::wire::Take<'_>>::take(&mut incoming)?;)*
                            ::core::result::Result::Ok(self.$method(&mut caller $(, $argument)*))
                        })();
                        $crate::answer::<$failure, $crate::__result!($($result)?)>(&caller, result)
                    })*
                    _ => $crate::no_such_order(),
                }
            }

            /// Answers requests until a method sets [`end`](semper_domain::Caller::end).
            ///
            /// # Errors
            /// When no request can be waited for.
            #[allow(dead_code)]
            fn serve(&mut self) -> ::core::result::Result<(), $crate::Error> {
                let keys = [0 $(, 0 $(+ $crate::keys_of::<$type>())*)*].into_iter().max().unwrap_or(0);
                $crate::Server::new().accepting(keys).run(|request| self.answer(request))
            }
        }

        $(#[$doc])*
        #[derive(Debug)]
        $vis struct $client($crate::keys::Start);

        impl ::core::convert::From<$crate::keys::Start> for $client {
            fn from(start: $crate::keys::Start) -> Self {
                Self(start)
            }
        }

        impl ::core::convert::From<$crate::Slot> for $client {
            fn from(slot: $crate::Slot) -> Self {
                Self(slot.into())
            }
        }

        impl $crate::keys::Key for $client {
            fn slot(&self) -> &$crate::Slot {
                $crate::keys::Key::slot(&self.0)
            }

            fn into_slot(self) -> $crate::Slot {
                $crate::keys::Key::into_slot(self.0)
            }
        }

        #[allow(dead_code, clippy::too_many_arguments, clippy::redundant_closure_call)]
        impl $client {
            $(
                $(#[$method_doc])*
                ///
                /// # Errors
                /// What the server refuses, or the kernel.
                $vis fn $method(&self $(, $argument: $type)*)
                    -> ::core::result::Result<$crate::__result!($($result)?), $crate::CallError<$failure>> {
                    let arguments = (|| {
                        #[allow(unused_mut)]
                        let mut out = $crate::wire::Outgoing::new();
                        $($crate::wire::Put::put($argument, &mut out)?;)*
                        ::core::result::Result::Ok(out)
                    })();
                    let keys = $crate::keys_of::<$crate::__result!($($result)?)>();
                    $crate::call(&self.0, $code, keys, arguments, |incoming| {
                        <$crate::__result!($($result)?) as $crate::wire::Take<'_>>::take(incoming)
                    })
                }
            )*
        }
    };
}

/// What a method gives: used by [`interface!`](crate::interface!).
#[doc(hidden)]
#[macro_export]
macro_rules! __result {
    () => {
        ()
    };
    ($result:ty) => {
        $result
    };
}
