//! `objects ROUNDS`: a small evaluator of expressions, whose every value and node is an object of its own on the heap.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

enum Expression {
    Number(u64),
    Name(String),
    Apply(char, Vec<Rc<Expression>>),
}

fn build(depth: u32, seed: &mut u64) -> Rc<Expression> {
    *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    let choice = *seed >> 33;
    Rc::new(match depth {
        0 if choice % 2 == 0 => Expression::Number(choice),
        0 => Expression::Name(format!("v{}", choice % 64)),
        _ => {
            let operator = ['+', '*', '^'][(choice % 3) as usize];
            Expression::Apply(operator, (0..2 + choice % 2).map(|_| build(depth - 1, seed)).collect())
        }
    })
}

fn evaluate(expression: &Expression, names: &HashMap<String, Box<u64>>) -> Box<u64> {
    match expression {
        Expression::Number(number) => Box::new(*number),
        Expression::Name(name) => names.get(name).cloned().unwrap_or_default(),
        Expression::Apply(operator, arguments) => {
            let values: Vec<Box<u64>> = arguments.iter().map(|argument| evaluate(argument, names)).collect();
            values.into_iter().reduce(|a, b| apply(*operator, &a, &b)).unwrap_or_default()
        }
    }
}

fn apply(operator: char, a: &u64, b: &u64) -> Box<u64> {
    Box::new(match operator {
        '+' => a.wrapping_add(*b),
        '*' => a.wrapping_mul(*b | 1),
        _ => a ^ b.rotate_left(7),
    })
}

fn main() {
    let rounds: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(100);
    let mut names = HashMap::new();
    let mut seed = 1;
    let mut result = 0u64;
    let start = Instant::now();
    for round in 0..rounds {
        let expression = build(8, &mut seed);
        let value = evaluate(&expression, &names);
        result = result.rotate_left(1) ^ *value;
        names.insert(format!("v{}", round % 64), value);
    }
    println!("elapsed {}", start.elapsed().as_nanos());
    println!("result {result}");
}
