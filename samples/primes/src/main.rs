//! Primes counts the primes below LIMIT (an environment variable) and prints how
//! many there are and the largest of them.

use std::process::ExitCode;

fn main() -> ExitCode {
    let limit: usize = match std::env::var("LIMIT").unwrap_or_else(|_| "1000000".into()).parse() {
        Ok(n) if n <= 100_000_000 => n,
        _ => {
            eprintln!("primes: LIMIT must be a number up to 100000000");
            return ExitCode::FAILURE;
        }
    };
    let mut composite = vec![false; limit.max(2)];
    let mut i = 2;
    while i * i < limit {
        if !composite[i] {
            (i * i..limit).step_by(i).for_each(|j| composite[j] = true);
        }
        i += 1;
    }
    let primes = (2..limit).filter(|&i| !composite[i]);
    let (count, largest) = primes.fold((0, 0), |(n, _), p| (n + 1, p));
    println!("{count} primes below {limit}, the largest is {largest}");
    ExitCode::SUCCESS
}
