// Shows what a Rust program is given: arguments, a file, a directory, a panic.
use std::{env, fs, io, process};

fn main() -> io::Result<()> {
    let args: Vec<String> = env::args().collect();
    match args[1].as_str() {
        "cat" => print!("{}", fs::read_to_string(&args[2])?),
        "list" => {
            let mut names: Vec<String> = fs::read_dir(&args[2])?
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            println!("{}", names.join(" "));
        }
        "write" => {
            fs::create_dir_all(format!("{}/a/b", args[2]))?;
            fs::write(format!("{}/a/b/c", args[2]), "from rust")?;
            fs::rename(format!("{}/a/b/c", args[2]), format!("{}/d", args[2]))?;
            fs::remove_dir(format!("{}/a/b", args[2]))?;
            println!("{}", fs::metadata(format!("{}/d", args[2]))?.len());
        }
        "stdin" => {
            let mut line = String::new();
            io::stdin().read_line(&mut line)?;
            print!("{}", line.to_uppercase());
        }
        "exit" => process::exit(args[2].parse().unwrap()),
        "panic" => panic!("{}", args[2]),
        _ => process::exit(2),
    }
    Ok(())
}
