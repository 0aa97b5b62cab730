//! A long floating-point computation: one program of `semper demo`. Ordinary Rust; it knows nothing of Semper.
//!
//! `numeric STEPS` moves the Sun and the outer planets for so many steps of a hundredth of a year and prints their energy
//! and places as it goes. One wrong bit in one register shows in every line after it.

use std::env;
use std::f64::consts::PI;
use std::process::ExitCode;

const SOLAR_MASS: f64 = 4.0 * PI * PI;
const DAYS: f64 = 365.24;
const STEP: f64 = 0.01;

#[derive(Clone, Copy)]
struct Body {
    place: [f64; 3],
    speed: [f64; 3],
    mass: f64,
}

/// Sun, Jupiter, Saturn, Uranus, Neptune (the n-body benchmark's figures).
fn planets() -> [Body; 5] {
    let body = |place: [f64; 3], speed: [f64; 3], mass: f64| Body {
        place,
        speed: speed.map(|per_day| per_day * DAYS),
        mass: mass * SOLAR_MASS,
    };
    let mut bodies = [
        body([0.0; 3], [0.0; 3], 1.0),
        body(
            [4.841_431_442_464_72, -1.160_320_044_027_428_4, -0.103_622_044_471_123_11],
            [0.001_660_076_642_744_037, 0.007_699_011_184_197_404, -0.000_069_046_001_697_206_3],
            0.000_954_791_938_424_326_6,
        ),
        body(
            [8.343_366_718_244_58, 4.124_798_564_124_305, -0.403_523_417_114_321],
            [-0.002_767_425_107_268_624, 0.004_998_528_012_349_172, 0.000_023_041_729_757_376_393],
            0.000_285_885_980_666_130_8,
        ),
        body(
            [12.894_369_562_139_13, -15.111_151_401_698_631, -0.223_307_578_892_655_73],
            [0.002_964_601_375_647_616, 0.002_378_471_739_594_809_5, -0.000_029_658_956_854_023_756],
            0.000_043_662_440_433_515_63,
        ),
        body(
            [15.379_697_114_850_917, -25.919_314_609_987_964, 0.179_258_772_950_371_18],
            [0.002_680_677_724_903_893_2, 0.001_628_241_700_382_423, -0.000_095_159_225_451_971_59],
            0.000_051_513_890_204_661_145,
        ),
    ];
    for axis in 0..3 {
        let momentum: f64 = bodies.iter().map(|body| body.speed[axis] * body.mass).sum();
        bodies[0].speed[axis] = -momentum / SOLAR_MASS;
    }
    bodies
}

fn energy(bodies: &[Body]) -> f64 {
    let mut energy = 0.0;
    for (at, body) in bodies.iter().enumerate() {
        energy += 0.5 * body.mass * body.speed.iter().map(|v| v * v).sum::<f64>();
        for other in &bodies[at + 1..] {
            energy -= body.mass * other.mass / distance_squared(body, other).sqrt();
        }
    }
    energy
}

fn distance_squared(a: &Body, b: &Body) -> f64 {
    (0..3).map(|axis| (a.place[axis] - b.place[axis]).powi(2)).sum()
}

fn step(bodies: &mut [Body; 5]) {
    for at in 0..bodies.len() {
        for other in at + 1..bodies.len() {
            let squared = distance_squared(&bodies[at], &bodies[other]);
            let pull = STEP / (squared * squared.sqrt());
            for axis in 0..3 {
                let way = bodies[at].place[axis] - bodies[other].place[axis];
                bodies[at].speed[axis] -= way * bodies[other].mass * pull;
                bodies[other].speed[axis] += way * bodies[at].mass * pull;
            }
        }
    }
    for body in bodies {
        for axis in 0..3 {
            body.place[axis] += STEP * body.speed[axis];
        }
    }
}

fn main() -> ExitCode {
    let Some(steps) = env::args().nth(1).and_then(|steps| steps.parse::<u64>().ok()) else {
        eprintln!("usage: numeric STEPS");
        return ExitCode::from(2);
    };
    let mut bodies = planets();
    println!("start: energy {:.12}", energy(&bodies));
    let report = (steps / 200).max(1);
    for done in 1..=steps {
        step(&mut bodies);
        if done % report == 0 {
            let [x, y, z] = bodies[1].place;
            println!("{done:>10} steps: energy {:.12}, Jupiter at {x:+.12} {y:+.12} {z:+.12}", energy(&bodies));
        }
    }
    for body in &bodies {
        println!("{:016x} {:016x}", body.place[0].to_bits(), body.speed[0].to_bits());
    }
    println!("done");
    ExitCode::SUCCESS
}
