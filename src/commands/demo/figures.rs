//! What each kill cost.

use std::time::Duration;

use super::super::say;
use super::super::status::milliseconds;

/// One kill.
pub struct Kill {
    /// The generation that was the newest.
    pub generation: u64,
    /// Time between the state that was committed last and the kill.
    pub lost: Duration,
    /// The longest pause since the last start, and half of the pauses.
    pub pause_max_us: u64,
    pub pause_p50_us: u64,
    /// From the start of the new runtime until the programs run again.
    pub resume: Duration,
}

/// Prints the kills and a line that sums them up.
pub fn print_table(kills: &[Kill]) {
    say("kill  generation   work lost   pause p50   pause max     resume");
    let row = |first: &str, generation: &str, lost: Duration, p50: u64, max: u64, resume: Duration| {
        say(format_args!(
            "{first:>4}  {generation:>10}  {:>10}  {:>10}  {:>10}  {:>9}",
            milliseconds(micros(lost)),
            milliseconds(p50),
            milliseconds(max),
            milliseconds(micros(resume))
        ));
    };
    for (number, kill) in kills.iter().enumerate() {
        let number = (number + 1).to_string();
        let generation = kill.generation.to_string();
        row(&number, &generation, kill.lost, kill.pause_p50_us, kill.pause_max_us, kill.resume);
    }
    if let (Some(lost), Some(resume)) =
        (kills.iter().map(|kill| kill.lost).max(), kills.iter().map(|kill| kill.resume).max())
    {
        let p50 = kills.iter().map(|kill| kill.pause_p50_us).max().unwrap_or(0);
        let max = kills.iter().map(|kill| kill.pause_max_us).max().unwrap_or(0);
        row("most", "", lost, p50, max, resume);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
