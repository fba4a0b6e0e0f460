//! What a machine can say about how the source is laid out. `scripts/check-layout` builds this program alone, without
//! the crate and without any other, so that it answers while the crate does not compile.
//!
//! ```text
//! scripts/check-layout              prints each finding; fails when there is any
//! scripts/check-layout --list       also prints, for each circle, the imports that make it
//! scripts/check-layout --sizes      prints the lines of code of every file, the longest first, and nothing else
//! ```
//!
//! # What it counts
//!
//! **Circles.** Files are joined by imports; a circle is a strongly connected component of two files or more, so that
//! one circle may be several loops that share files. The crates are `src/`, each program of `benches/` and each of
//! `examples/`. One file imports another when it names, in a `use` or inline, something that the other defines:
//!
//! - A name that is re-exported counts twice: as an import of the file that is named, and of the one that defines it.
//! - A module counts for what is named through it: `use super::clock;` is an import where `clock::Now` is written.
//! - `mod x;` is no import, and neither is a `pub use` of what a child defines, unless the file uses the name itself.
//! - A child that imports from its parent, where the parent uses the child, is a circle.
//! - What stands behind `#[cfg(test)]` or `#[test]` is not counted.
//!
//! A method that is called without an import is not seen, nor is a macro that is in scope by its place.
//!
//! **Long files.** More than 600 lines of code in a file of `src/`, `benches/` or `examples/`: lines that hold at least
//! part of a token, outside tests.
//!
//! **Long comments.** Lines over 120 columns (characters) that hold at least part of a comment, in every `.rs` file.
//!
//! **Unsafe.** The word, as code, in a file of `src/` that is not in `src/host/`.
//!
//! The source is read as tokens, not by a grammar: enough for imports, and it needs no dependency.

mod imports;
mod tokens;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use imports::{Crate, Imports};
use tokens::{Token, code_lines, lex};

/// Lines of code that a file may have.
const MAX_CODE_LINES: usize = 600;
/// Columns that a comment may reach.
const MAX_COMMENT_COLUMNS: usize = 120;

fn main() -> ExitCode {
    let options: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = options.iter().find(|option| !["--list", "--sizes"].contains(&option.as_str())) {
        eprintln!("check-layout: {unknown}? There are --list and --sizes");
        return ExitCode::FAILURE;
    }
    let has = |option: &str| options.iter().any(|given| given == option);

    let project = Project::read();
    let (text, status) = if has("--sizes") {
        let lines = project.sizes().into_iter().map(|(lines, file)| format!("{lines:5} {}\n", file.display()));
        (lines.collect(), ExitCode::SUCCESS)
    } else {
        let findings = findings(&project, has("--list"));
        let hint = if has("--list") { "" } else { " (--list shows the imports that make each circle)" };
        match findings.len() {
            0 => (String::new(), ExitCode::SUCCESS),
            n => (format!("{}check-layout: {n} findings{hint}\n", findings.concat()), ExitCode::FAILURE),
        }
    };
    let _ = std::io::stdout().write_all(text.as_bytes()); // a reader that has seen enough is no failure
    status
}

/// Each finding as a text of one line or more.
fn findings(project: &Project, with_imports: bool) -> Vec<String> {
    let circles = project.circles().into_iter().map(|circle| {
        let files: String = circle.iter().map(|file| format!("  {}\n", file.display())).collect();
        let imports = if with_imports { imports_within(project, &circle) } else { String::new() };
        format!("circle of {} files:\n{files}{imports}", circle.len())
    });
    let long_files = project
        .sizes()
        .into_iter()
        .filter(|(lines, _)| *lines > MAX_CODE_LINES)
        .map(|(lines, file)| format!("{}: {lines} lines of code, more than {MAX_CODE_LINES}\n", file.display()));
    let long_comments = long_comments().into_iter().map(|(file, line, columns)| {
        format!("{}:{line}: a comment of {columns} columns, more than {MAX_COMMENT_COLUMNS}\n", file.display())
    });
    let outside = project.unsafe_outside_host();
    let outside = outside.iter().map(|(file, line)| format!("{}:{line}: unsafe outside src/host\n", file.display()));
    circles.chain(long_files).chain(long_comments).chain(outside).collect()
}

/// The imports within one circle, grouped by the two files, with the lines on which they are.
fn imports_within(project: &Project, circle: &BTreeSet<PathBuf>) -> String {
    let mut text = String::from("  imports among them:\n");
    for ((from, to), uses) in &project.imports {
        if circle.contains(from) && circle.contains(to) {
            let uses: String =
                uses.iter().map(|(line, path)| format!("      {}:{line}: {path}\n", from.display())).collect();
            text += &format!("    {} -> {}\n{uses}", from.display(), to.display());
        }
    }
    text
}

// --- The project -----------------------------------------------------------------------------------------------------

/// All crates together. A file that several crates share is counted once.
#[derive(Default)]
struct Project {
    /// Every file that some crate has as a module, with its tokens outside tests.
    files: BTreeMap<PathBuf, Vec<Token>>,
    imports: Imports,
}

impl Project {
    fn read() -> Project {
        let mut project = Project::default();
        for root in crate_roots() {
            let mut krate = Crate::default();
            krate.load(&root, &[]);
            krate.add_imports(&mut project.imports);
            for (file, tokens) in krate.files {
                if !file.starts_with("tests") {
                    project.files.insert(file, tokens);
                }
            }
        }
        project
    }

    fn circles(&self) -> Vec<BTreeSet<PathBuf>> {
        circles(self.files.keys(), self.imports.keys())
    }

    /// Lines of code of each file, the longest first.
    fn sizes(&self) -> Vec<(usize, &PathBuf)> {
        let mut sizes: Vec<_> = self.files.iter().map(|(file, tokens)| (code_lines(tokens), file)).collect();
        sizes.sort_by(|a, b| b.cmp(a));
        sizes
    }

    fn unsafe_outside_host(&self) -> Vec<(&PathBuf, usize)> {
        let outside = self.files.iter().filter(|(file, _)| file.starts_with("src") && !file.starts_with("src/host"));
        outside
            .flat_map(|(file, tokens)| {
                tokens.iter().filter(|token| token.text == "unsafe").map(move |token| (file, token.line))
            })
            .collect()
    }
}

/// The root files of the crates whose imports are counted.
fn crate_roots() -> Vec<PathBuf> {
    let mut roots = vec![PathBuf::from("src/lib.rs")];
    for folder in ["benches", "examples"] {
        for entry in sorted_entries(Path::new(folder)) {
            let main = entry.join("main.rs");
            if main.is_file() {
                roots.push(main);
            } else if entry.is_dir() {
                // Without a main.rs, each file is a program of its own; a folder with a mod.rs is shared.
                if !entry.join("mod.rs").is_file() {
                    roots.extend(sorted_entries(&entry).into_iter().filter(|file| is_rust(file)));
                }
            } else if is_rust(&entry) {
                roots.push(entry);
            }
        }
    }
    roots.retain(|root| root.is_file());
    roots
}

fn is_rust(file: &Path) -> bool {
    file.extension().is_some_and(|ending| ending == "rs")
}

fn sorted_entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut entries: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

/// Comment lines that are too long, in every Rust file, as file, line and columns.
fn long_comments() -> Vec<(PathBuf, usize, usize)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["src", "benches", "examples", "tests", "fuzz"].map(PathBuf::from).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in sorted_entries(&folder) {
            if entry.is_dir() {
                if !entry.ends_with("target") {
                    folders.push(entry);
                }
            } else if is_rust(&entry) {
                let text = fs::read_to_string(&entry).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                for line in lex(&text).comment_lines {
                    let columns = lines.get(line - 1).map_or(0, |text| text.chars().count());
                    if columns > MAX_COMMENT_COLUMNS {
                        found.push((entry.clone(), line, columns));
                    }
                }
            }
        }
    }
    found.sort();
    found
}

/// The strongly connected components of two files or more. Graphs are small: a file is in a circle with another when
/// each can be reached from the other.
fn circles<'a>(
    files: impl Iterator<Item = &'a PathBuf>,
    edges: impl Iterator<Item = &'a (PathBuf, PathBuf)>,
) -> Vec<BTreeSet<PathBuf>> {
    let mut next: HashMap<&PathBuf, Vec<&PathBuf>> = HashMap::new();
    for (from, to) in edges {
        next.entry(from).or_default().push(to);
    }
    let reachable = |start: &'a PathBuf| {
        let mut seen = HashSet::new();
        let mut todo = vec![start];
        while let Some(file) = todo.pop() {
            todo.extend(next.get(file).into_iter().flatten().copied().filter(|to| seen.insert(*to)));
        }
        seen
    };
    let reach: BTreeMap<&PathBuf, HashSet<&PathBuf>> = files.map(|file| (file, reachable(file))).collect();
    let mut circles: Vec<BTreeSet<PathBuf>> = Vec::new();
    for (file, reached) in &reach {
        if circles.iter().any(|circle| circle.contains(*file)) {
            continue;
        }
        let both_ways = reached.iter().filter(|other| reach.get(*other).is_some_and(|back| back.contains(file)));
        let mut circle: BTreeSet<PathBuf> = both_ways.map(|other| (*other).clone()).collect();
        circle.insert((*file).clone());
        if circle.len() > 1 {
            circles.push(circle);
        }
    }
    circles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_sets_of_files_that_reach_each_other() {
        let files = ["a", "b", "c", "d", "e"].map(PathBuf::from);
        let edge = |from: usize, to: usize| (files[from].clone(), files[to].clone());
        let edges = [edge(0, 1), edge(1, 2), edge(2, 0), edge(2, 3), edge(3, 4)];
        let found = circles(files.iter(), edges.iter());
        assert_eq!(found, [files[..3].iter().cloned().collect()]);
    }
}
