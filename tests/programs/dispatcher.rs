//! Pays: tells an outside ledger, by standard output, to pay each of so many payments, under a token that is drawn for each.
//! The ledger pays once for each token. With `journal` the token is what the journal says, so that it is the same in every life;
//! with `forgetful` it is drawn anew after each roll-back, and a payment may be made twice.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;

fn token() -> String {
    let mut bytes = [0; 8];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The do-it-once pattern: what is decided first is what holds, whatever happens to this program.
fn once(journal: &File, number: u64, decided: String) -> (String, bool) {
    match journal.write_at(decided.as_bytes(), number) {
        Ok(_) => (decided, false),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let mut earlier = [0; 64];
            let count = journal.read_at(&mut earlier, number).unwrap();
            (String::from_utf8_lossy(&earlier[..count]).into_owned(), true)
        }
        Err(error) => panic!("the journal: {error}"),
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (how, payments): (&str, u64) = (&args[1], args[2].parse().unwrap());
    let mut journal = None;
    let mut found = 0;
    for number in 1..=payments {
        let mut token = token();
        if how == "journal" {
            let journal = journal.get_or_insert_with(|| {
                OpenOptions::new().read(true).write(true).open("/dev/semper/journal").unwrap()
            });
            let (decided, again) = once(journal, number, token);
            (token, found) = (decided, found + u64::from(again));
        }
        println!("pay {number} {token}");
        std::io::stdout().flush().unwrap();
        // What else such a program does.
        let sum = (0..300_000_u64).fold(number, |sum, i| sum.rotate_left(7) ^ i.wrapping_mul(sum));
        assert_ne!(sum, 1);
    }
    println!("done, {found} found again");
}
