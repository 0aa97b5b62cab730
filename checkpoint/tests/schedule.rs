//! When checkpoints are taken, under a clock that only the test moves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use semper_checkpoint::{Held, Next, Policy, Schedule, Trigger, Wanted};
use std::time::Duration;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn policy(interval: u64) -> Policy {
    Policy { interval: Some(ms(interval)), ..Policy::default() }
}

/// Lets time pass until a checkpoint is due; gives when and why. Moves on by what the schedule asks for, and checks that it never asks for the past.
fn run(schedule: &mut Schedule, mut now: Duration, until: Duration, wanted: &Wanted) -> Option<(Duration, Trigger)> {
    while now <= until {
        match schedule.next(now, wanted) {
            Next::Now(trigger) => return Some((now, trigger)),
            Next::Wait(next) => {
                assert!(next > now, "{next:?} is not after {now:?}");
                now = next;
            }
        }
    }
    None
}

const QUIET: Wanted = Wanted {
    end: false,
    request: false,
    held: Held::Nothing,
    dirty: 0,
    pager: false,
    starving: None,
    free: 1 << 30,
    paused: false,
};

#[test]
fn the_interval_counts_from_start_to_start() {
    let mut schedule = Schedule::new(policy(100), ms(0));
    let mut starts = Vec::new();
    let mut now = ms(0);
    for _ in 0..3 {
        let (at, trigger) = run(&mut schedule, now, ms(1000), &QUIET).unwrap();
        assert_eq!(trigger, Trigger::Interval);
        starts.push(at);
        schedule.started(at, trigger);
        now = at + ms(30);
        schedule.ended(now, None);
    }
    assert_eq!(starts, [ms(100), ms(200), ms(300)]);
}

#[test]
fn a_long_commit_is_not_followed_by_a_burst() {
    let mut schedule = Schedule::new(policy(100), ms(0));
    schedule.started(ms(100), Trigger::Interval);
    schedule.ended(ms(1350), None);
    let (at, trigger) = run(&mut schedule, ms(1350), ms(5000), &QUIET).unwrap();
    assert_eq!((at, trigger), (ms(1400), Trigger::Interval));
    schedule.started(at, trigger);
    schedule.ended(ms(1410), None);
    assert_eq!(run(&mut schedule, ms(1410), ms(5000), &QUIET).unwrap().0, ms(1500));
}

#[test]
fn without_an_interval_only_a_request_brings_one() {
    for interval in [None, Some(ms(0))] {
        let mut schedule = Schedule::new(Policy { interval, ..Policy::default() }, ms(0));
        assert_eq!(run(&mut schedule, ms(0), ms(100_000), &QUIET), None);
        let asked = Wanted { request: true, ..QUIET };
        assert_eq!(schedule.next(ms(5), &asked), Next::Now(Trigger::Request));
    }
}

#[test]
fn an_interval_below_the_least_is_raised() {
    let mut schedule = Schedule::new(policy(1), ms(0));
    assert_eq!(run(&mut schedule, ms(0), ms(100), &QUIET).unwrap().0, ms(10));
}

#[test]
fn held_output_comes_first_at_once_and_then_not_more_often_than_the_gap() {
    let mut schedule = Schedule::new(policy(10_000), ms(500));
    let held = Wanted { held: Held::Output, ..QUIET };
    assert_eq!(schedule.next(ms(501), &held), Next::Now(Trigger::HeldOutput));
    schedule.started(ms(501), Trigger::HeldOutput);
    schedule.ended(ms(503), None);
    assert_eq!(run(&mut schedule, ms(503), ms(1000), &held), Some((ms(521), Trigger::HeldOutput)));
}

#[test]
fn a_reply_leaves_half_of_the_time_free_of_checkpoints() {
    let mut schedule = Schedule::new(policy(10_000), ms(500));
    let replies = Wanted { held: Held::Reply, ..QUIET };
    assert_eq!(schedule.next(ms(501), &replies), Next::Now(Trigger::HeldOutput));
    schedule.started(ms(501), Trigger::HeldOutput);
    schedule.ended(ms(503), None);
    assert_eq!(run(&mut schedule, ms(503), ms(1000), &replies), Some((ms(505), Trigger::HeldOutput)));
    // Not if no other is expected.
    let all = Wanted { held: Held::AllReplies, ..QUIET };
    assert_eq!(schedule.next(ms(503), &all), Next::Now(Trigger::HeldOutput));
    // But it waits no longer than other output, and as long as was said if anything was.
    schedule.started(ms(505), Trigger::HeldOutput);
    schedule.ended(ms(520), None);
    assert_eq!(run(&mut schedule, ms(520), ms(1000), &replies), Some((ms(525), Trigger::HeldOutput)));
    let mut schedule = Schedule::new(Policy { reply_gap: Some(ms(7)), ..policy(10_000) }, ms(500));
    schedule.started(ms(501), Trigger::HeldOutput);
    schedule.ended(ms(502), None);
    for wanted in [replies, all] {
        assert_eq!(run(&mut schedule.clone(), ms(502), ms(1000), &wanted), Some((ms(508), Trigger::HeldOutput)));
    }
}

#[test]
fn memory_and_space_bring_one_forward() {
    let policy = Policy { dirty_limit: 1000, free_limit: 500, ..policy(60_000) };
    let mut schedule = Schedule::new(policy, ms(0));
    assert_eq!(run(&mut schedule, ms(0), ms(1000), &Wanted { dirty: 1000, ..QUIET }), None);
    for wanted in [Wanted { dirty: 1001, ..QUIET }, Wanted { pager: true, ..QUIET }] {
        assert_eq!(schedule.next(ms(1000), &wanted), Next::Now(Trigger::DirtyMemory));
    }
    assert_eq!(schedule.next(ms(1000), &Wanted { free: 499, ..QUIET }), Next::Now(Trigger::FreeSpace));
}

#[test]
fn space_that_stays_short_brings_one_once() {
    let mut schedule = Schedule::new(Policy { free_limit: 500, ..policy(60_000) }, ms(0));
    let short = Wanted { free: 1, ..QUIET };
    assert_eq!(schedule.next(ms(100), &short), Next::Now(Trigger::FreeSpace));
    schedule.started(ms(100), Trigger::FreeSpace);
    schedule.ended(ms(101), None);
    assert_eq!(run(&mut schedule, ms(101), ms(30_000), &short), None);
    assert_eq!(run(&mut schedule, ms(30_000), ms(30_100), &QUIET), None);
    assert_eq!(schedule.next(ms(30_101), &short), Next::Now(Trigger::FreeSpace));
}

/// In a full store programs wait whatever is committed: a checkpoint every 20 ms was taken for them, without end.
#[test]
fn one_that_gave_no_memory_to_who_waits_is_not_repeated_in_a_hurry() {
    for (interval, patience) in [(Some(10_000), 1000), (Some(300), 300), (None, 1000)] {
        let policy = Policy { interval: interval.map(ms), ..Policy::default() };
        let mut schedule = Schedule::new(policy, ms(0));
        let starving = Wanted { pager: true, starving: Some(3), ..QUIET };
        assert_eq!(schedule.next(ms(100), &starving), Next::Now(Trigger::DirtyMemory));
        schedule.started(ms(100), Trigger::DirtyMemory);
        schedule.ended(ms(101), None);
        // Another one waits: the last one helped.
        let next = Wanted { starving: Some(4), ..starving };
        assert_eq!(run(&mut schedule.clone(), ms(101), ms(5000), &next).unwrap(), (ms(120), Trigger::DirtyMemory));
        // Few frames are left, but nobody waits.
        let few = Wanted { starving: None, ..starving };
        assert_eq!(run(&mut schedule.clone(), ms(101), ms(5000), &few).unwrap(), (ms(120), Trigger::DirtyMemory));
        let (at, _) = run(&mut schedule, ms(101), ms(5000), &starving).unwrap();
        // At the first look after the wait.
        assert!((ms(100 + patience)..ms(120 + patience)).contains(&at), "{at:?}");
    }
}

#[test]
fn a_failed_one_is_made_again_after_the_interval_but_not_in_a_hurry() {
    for (interval, pause) in [(10, 100), (300, 300), (60_000, 1000)] {
        let mut schedule = Schedule::new(policy(interval), ms(0));
        schedule.started(ms(100), Trigger::Interval);
        schedule.ended(ms(101), Some(None));
        // Nor does held output or a waiting pager hurry it.
        let held = Wanted { held: Held::Output, pager: true, ..QUIET };
        assert_eq!(run(&mut schedule, ms(101), ms(90_000), &held), Some((ms(101 + pause), Trigger::Retry)));
    }
}

#[test]
fn a_full_store_is_tried_again_as_soon_as_it_has_grown() {
    let mut schedule = Schedule::new(Policy { interval: None, ..Policy::default() }, ms(0));
    schedule.started(ms(100), Trigger::Request);
    schedule.ended(ms(101), Some(Some(7)));
    assert!(matches!(schedule.next(ms(102), &Wanted { free: 7, ..QUIET }), Next::Wait(_)));
    assert_eq!(schedule.next(ms(103), &Wanted { free: 8, ..QUIET }), Next::Now(Trigger::Retry));
}

#[test]
fn a_pause_leaves_only_requests_and_the_end() {
    let mut schedule = Schedule::new(policy(100), ms(0));
    let paused = Wanted { paused: true, held: Held::Output, pager: true, ..QUIET };
    assert_eq!(run(&mut schedule, ms(0), ms(5000), &paused), None);
    assert_eq!(schedule.next(ms(5000), &Wanted { request: true, ..paused }), Next::Now(Trigger::Request));
    assert_eq!(schedule.next(ms(5000), &Wanted { end: true, ..paused }), Next::Now(Trigger::Final));
}
