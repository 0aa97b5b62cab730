//! A calculator that cannot tell anybody what it was asked: a factory makes it and shows that it has no hole, and certifies that it made
//! it. Nobody has to read the calculator's code to give it a secret. `calculator [ROUNDS]`
#![no_std]
#![no_main]

use semper_domain::abi::{SLOTS, slot};
use semper_domain::keys::{Bank, Console, Discrim, Factory, Key, Meter, Quota};
use semper_domain::{
    Call, CallError, Caller, Error, Slot, Spawn, Template, args, entry, failures, give_up, interface, println, serve,
};

failures! {
    /// Why there is no result.
    pub enum Problem {
        /// It is no expression.
        Syntax = 1, "that is no expression";
        /// A division by zero, or a result that is too large.
        Range = 2, "there is no such number";
    }
}

interface! {
    /// A calculator.
    pub trait Calculator, client CalculatorClient, fails Problem {
        /// The value of an expression of whole numbers, `+ - * /` and parentheses.
        1 => fn evaluate(expression: &str) -> i64;
        /// Tries to use what it holds to tell the world; how often did that do something?
        2 => fn leaks() -> u64;
    }
}

entry!(main);

/// What is left of an expression.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn next_is(&mut self, wanted: u8) -> bool {
        self.0 = self.0.trim_ascii_start();
        let found = self.0.first() == Some(&wanted);
        self.0 = &self.0[usize::from(found)..];
        found
    }

    fn sum(&mut self) -> Result<i64, Problem> {
        let mut value = self.product()?;
        loop {
            value = if self.next_is(b'+') {
                value.checked_add(self.product()?)
            } else if self.next_is(b'-') {
                value.checked_sub(self.product()?)
            } else {
                return Ok(value);
            }
            .ok_or(Problem::Range)?;
        }
    }

    fn product(&mut self) -> Result<i64, Problem> {
        let mut value = self.factor()?;
        loop {
            value = if self.next_is(b'*') {
                value.checked_mul(self.factor()?)
            } else if self.next_is(b'/') {
                value.checked_div(self.factor()?)
            } else {
                return Ok(value);
            }
            .ok_or(Problem::Range)?;
        }
    }

    fn factor(&mut self) -> Result<i64, Problem> {
        if self.next_is(b'(') {
            let value = self.sum()?;
            return if self.next_is(b')') { Ok(value) } else { Err(Problem::Syntax) };
        }
        if self.next_is(b'-') {
            return self.factor()?.checked_neg().ok_or(Problem::Range);
        }
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = self.0.split_at(digits);
        self.0 = rest;
        if digits == 0 {
            return Err(Problem::Syntax);
        }
        let digit = |value: i64, byte: &u8| value.checked_mul(10)?.checked_add(i64::from(*byte - b'0'));
        number.iter().try_fold(0, digit).ok_or(Problem::Range)
    }
}

struct Machine;

impl Calculator for Machine {
    fn evaluate(&mut self, _: &mut Caller, expression: &str) -> Result<i64, Problem> {
        let mut rest = Rest(expression.as_bytes());
        let value = rest.sum()?;
        if rest.0.trim_ascii().is_empty() { Ok(value) } else { Err(Problem::Syntax) }
    }

    fn leaks(&mut self, _: &mut Caller) -> Result<u64, Problem> {
        let tell = |number| Call::new(&Slot::fixed(number), 1).string(b"a secret").call();
        Ok((0..SLOTS).map(|number| u64::from(tell(number).is_ok())).sum())
    }
}

fn calculator(_: u64) {
    Machine.serve().expect("a server can wait");
}

fn imitation(_: u64) {
    serve(|_| semper_domain::Reply::words([42])).expect("a server can wait");
}

fn main() -> Result<(), CallError<Problem>> {
    let rounds: u64 = args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(1);
    give_up(&[slot::RANDOM, slot::CHECKPOINT, slot::RESTART, slot::SELF, slot::MEMORY]);
    let (bank, meter) = (Bank::at(slot::BANK), Meter::at(slot::METER));

    // The builder's part.
    let factory = bank.buy_factory()?;
    factory.install(0, &Discrim::at(slot::DISCRIM))?;
    Template::new(calculator, 0).holding(0).install(&factory, &bank)?;
    factory.seal()?;
    let leaky = leaky_factory(&bank)?;

    // The requestor's part.
    let (holes, sealed) = factory.holes()?;
    println!(
        "the calculator's factory has {holes} holes, sealed: {sealed}; one with a console has {}",
        leaky.holes()?.0
    );
    let start = factory.make(&bank, &meter, [None, None])?;
    let certified = factory.certify(&start)?;
    let other = Spawn::new(&bank, &meter, imitation, 0).begin()?.domain.make_start_key(0)?;
    println!("it made the calculator: {certified}; it made the imitation: {}", factory.certify(&other)?);
    let calculator = CalculatorClient::from(start);
    for expression in ["2 + 3 * 4", "(2 + 3) * -4", "7 / (3 - 3)", "1 +", "9223372036854775807 + 1"] {
        match calculator.evaluate(expression) {
            Ok(value) => println!("{expression} = {value}"),
            Err(CallError::Refused(problem)) => println!("{expression}: {problem}"),
            Err(error) => return Err(error),
        }
    }
    let leaks = calculator.leaks()?;
    let mut answer = 0;
    for _ in 0..rounds {
        // A calculator for one question, from a bank that is destroyed with all that it sold.
        let purse = bank.buy_bank(Quota { pages: 500, records: 50 })?;
        let calculator = CalculatorClient::from(factory.make(&purse, &meter, [None, None])?);
        answer = calculator.evaluate("6 * 7")?;
        purse.destroy()?;
    }
    println!("calculator: {holes} holes, certified {certified}, {leaks} keys to tell by, 6 * 7 = {answer}");
    Ok(())
}

/// A factory whose products could print: it cannot hide that.
fn leaky_factory(bank: &Bank) -> Result<Factory, Error> {
    let factory = bank.buy_factory()?;
    factory.install(0, &Console::at(slot::CONSOLE))?;
    Ok(factory)
}
