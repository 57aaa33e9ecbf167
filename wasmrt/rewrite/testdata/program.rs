// Closures, trait objects, hashing, sorting, formatting, and a vector copied
// about: what Rust's standard library makes of WebAssembly.
use std::collections::{BTreeMap, HashMap};

trait Shape {
    fn area(&self) -> f64;
}

struct Square(f64);
struct Circle(f64);

impl Shape for Square {
    fn area(&self) -> f64 {
        self.0 * self.0
    }
}

impl Shape for Circle {
    fn area(&self) -> f64 {
        3.0 * self.0 * self.0
    }
}

fn ackermann(m: u64, n: u64) -> u64 {
    match (m, n) {
        (0, n) => n + 1,
        (m, 0) => ackermann(m - 1, 1),
        (m, n) => ackermann(m - 1, ackermann(m, n - 1)),
    }
}

fn main() {
    let mut words: BTreeMap<String, usize> = BTreeMap::new();
    for i in 0..5000usize {
        *words.entry(format!("{:x}", i * 2654435761 % 977)).or_default() += i;
    }
    let lengths: HashMap<usize, usize> =
        words.keys().fold(HashMap::new(), |mut m, w| {
            *m.entry(w.len()).or_default() += 1;
            m
        });
    let mut list: Vec<_> = lengths.into_iter().collect();
    list.sort();
    let shapes: Vec<Box<dyn Shape>> = vec![Box::new(Square(2.0)), Box::new(Circle(1.5))];
    let total: f64 = shapes.iter().map(|s| s.area()).sum();
    let big = vec![7u8; 5 << 20];
    let mut copy = big.clone();
    copy.copy_within(0..3 << 20, 1 << 20);
    println!("{:?} {:?} {} {}", list, words.iter().next(), total, ackermann(2, 300));
    println!("{}", copy.iter().map(|&b| b as u64).sum::<u64>());
    std::process::exit(5);
}
