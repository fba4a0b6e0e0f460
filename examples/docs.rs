//! Generates docs from the code: `docs/commands.md`, `docs/config.md`, `docs/statistics.md`, the programs of
//! `examples/` in other pages, and the Prometheus files and the reasons of `SMARTCACHE.HEALTH` in `docs/operations.md`.
//!
//! `cargo run --example docs` writes them; with `--check` it only reports which are out of date, and fails if any is.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use smartcache::cache::stats::FIELDS;
use smartcache::cache::stats::health::REASONS;
use smartcache::commands::COMMANDS;
use smartcache::commands::spec::{Access, Command, Flag, Keys};
use smartcache::config::SETTINGS;

/// Approximate maximum length of a line of a grammar.
const GRAMMAR_WIDTH: usize = 90;
/// The markers around the reasons of `HEALTH` in `docs/operations.md`.
const OPEN_REASONS: &str = "<!-- health -->";
const CLOSE_REASONS: &str = "<!-- /health -->";
/// The pages that show programs of `examples/`, each after `<!-- example NAME -->`.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "docs/leases.md",
        &[
            "leases/cache_aside.py",
            "leases/cache_aside_asyncio.py",
            "leases/cache_aside.mjs",
            "leases/cache_aside_ioredis.mjs",
            "leases/cache_aside.php",
            "leases/cache_aside.go",
            "leases/cache_aside.rs",
        ],
    ),
    (
        "docs/cluster.md",
        &[
            "cluster/invalidate_everywhere.py",
            "cluster/invalidate_everywhere.mjs",
            "cluster/invalidate_everywhere.go",
            "cluster/invalidate_everywhere.rs",
        ],
    ),
    (
        "docs/client-side-caching.md",
        &["client-side/copies.py", "client-side/with_redis_py.py", "client-side/raw.py", "client-side/built_in.py"],
    ),
];
/// Languages by file extension.
const LANGUAGES: &[(&str, &str)] = &[("py", "python"), ("mjs", "js"), ("php", "php"), ("go", "go"), ("rs", "rust")];
/// The marker after each program.
const EXAMPLE_ENDS: &str = "<!-- /example -->";
/// The files that `docs/operations.md` shows, each after `<!-- file PATH -->`.
const FILES: &[&str] = &["scripts/prometheus.yml", "scripts/alerts.yml"];
/// The marker after each file.
const FILE_ENDS: &str = "<!-- /file -->";
/// The first line of every fully generated page.
const NOTICE: &str = "<!-- Written by `make docs` from the code. Change it there. -->\n\n";

const COMMANDS_INTRO: &str = "\
# Commands

Command and option names are case-insensitive. Options come in any order, after the positional arguments. Keys, values
and tags may hold any bytes. In a grammar `[x]` is optional, `|` separates alternatives, and `…` repeats the preceding
item.

| in a grammar | what to write |
|---|---|
| duration, ttl, swr, sie, min, max, negative, lock | seconds, also with a fraction (`30`, `0.5`), or a unit: `250ms`, `30s`, `5m`, `2h`, `7d`. At most `36500d`; `0` only where documented |
| seconds, milliseconds, unix-time-seconds, unix-time-milliseconds | a whole number from 1, as large as in the server's own commands. What ends later than the year 10889 ends then |
| fraction | `0.1` or `10%`, from 0 to 1 |
| factor, beta | a number from 0 to 1000000 |
| pattern | a glob, exactly as in `KEYS`: `*`, `?`, `[a-c]`, `[^a]`, `\\x` |

Replies and statistics give durations in milliseconds. A *map* is a RESP3 map, and a flat array under RESP2. A number
with a fraction is a RESP3 double, and a bulk string under RESP2. All text is bulk strings, but for `OK`, errors and the
lines of `HELP`.

A key that holds a plain string is read as a fresh entry. A key of any other type answers `WRONGTYPE`, unless
stated otherwise. An error means that nothing has changed; [operations.md](operations.md#errors) lists them.

*Permissions* lists the ACL categories (on servers that support them for modules: 7.2 and later) and the required
key permissions; [operations.md](operations.md#acl) has grants to copy.
";

const CONFIG_INTRO: &str = "\
# Settings

A setting called `NAME` here is `smartcache.NAME` to the server. Three ways to set it, of which the later one wins:

- after the path in `loadmodule`: `loadmodule libsmartcache.so default-ttl 1h codec lz4`
- as a line in the server's configuration file: `smartcache.default-ttl 1h`
- at run time: `CONFIG SET smartcache.default-ttl 1h`, kept with `CONFIG REWRITE`

Values have units, so quote values that the shell or the file would split: `smartcache.rules '[{\"name\":\"a\",\"match\":\"a:*\"}]'`.
`CONFIG GET` shows durations in seconds, fractions in percent and sizes with a unit, whatever was written.
A value that is not allowed is refused, and the error names the allowed ones. A change applies to what is stored from
then on; stored entries do not change.
";

const STATISTICS_INTRO: &str = "\
# Statistics

`SMARTCACHE.STATS` returns these numbers as a map. `INFO smartcache` has the same ones with `smartcache_` before the
name. Counters run since the server started or since `SMARTCACHE.RESETSTAT`; measurements (entries, bytes) are as of
now. They belong to one node, and are neither saved nor replicated; a replica counts its own reads. For Prometheus and a
live view see [operations.md](operations.md#watching-it).
";

const STATISTICS_END: &str = "
`INFO smartcache` adds what concerns the process:

| field | what it is |
|---|---|
| `smartcache_version` | The version of the module, such as `0.1.0`. `MODULE LIST` shows it as a number: 1.2.3 is 10203, 0.1.0 is 100. |
| `smartcache_health` | The status of [`SMARTCACHE.HEALTH`](commands.md#smartcachehealth): `ok` or `warn`. |
| `smartcache_health_reasons` | How many reasons it reports. |
| `smartcache_offload_queued_bytes` | Bytes of large values that wait to be compressed in the background, or to replace the uncompressed value. |
| `smartcache_defragmented_entries` | Entries that the server's active defragmentation has moved. |

## By rule, by window, and in other formats

`STATS RULE profile` returns the numbers of one rule, `STATS RULES` those of every rule and of the keys without a rule,
under the name `(none)`, which no rule can have. They add up to the numbers of the node. A hit counts for the rule that
its entry was stored under, a miss for the rule that its key matches now. The counts of a removed rule move to `(none)`.

`WINDOW 1m`, `5m` or `1h` returns what was counted lately. A window begins at a full second (`1m`) or minute (`5m`,
`1h`), so it covers up to that much more than its name says. Windows, rates and times follow the monotonic clock: setting
the wall clock changes none of them. `counting_ms` is the time that the counters cover.

`JSON` has the fields of the map. `PROMETHEUS` is the text that Prometheus scrapes: `smartcache_` before the name,
`_seconds` instead of `_ms` (and the number in seconds), `_per_second` instead of `_per_sec`, `_total` behind counters,
`rule=\"…\"` as a label. One scrape of `STATS RULES PROMETHEUS` has everything: the numbers that belong to no key (errors,
waiters, uptime) are in it without a label, and each reason of [`HEALTH`](operations.md#health) is, 1 or 0, as
`smartcache_health{reason=\"…\"}`. Over a window no number only grows: then all metrics are gauges, with `window=\"5m\"` as a
label, and health is left out.

## Why a miss was a miss

| reason | how it is known | how sure |
|---|---|---|
| invalidated | the entry is still there and was invalidated; or it was invalidated before it left, as are the dead entries that the sweep frees | certain; as below |
| expired | the entry is still there and has expired; or the server reported that it let the key expire | as below |
| evicted | the server reported that it evicted the key | as below |
| cold | none of the above: never stored, deleted, or gone so long ago that the reason is forgotten | everything else |

The server reports when it evicts a key or lets one expire, and each entry that leaves is checked for invalidation. One
table of 512 KB for the whole node, outside the memory that the server counts and limits, remembers the reason: 32 bits
in one of 131,072 slots, chosen by a keyed hash of the name. One key is taken for another once in a billion misses. A
later key may overwrite the slot: after *n* more such keys a reason is still known with probability exp(−*n* / 131,072),
which is 93 % after 10,000 and 47 % after 100,000. Otherwise the miss counts as cold, so the other reasons are never
counted too high; right after an invalidation of far more than 100,000 entries most of their misses count as cold, too.
Deleting an entry clears its reason, and a flush clears all. Hits and stores pay nothing for it; an eviction, an expiry, a
deletion, a swept entry or a miss pays about 20 ns. On a replica keys expire by deletion, so their misses are cold.

## What it costs

Counting is a few additions per read: it reads no clock, and allocates only what a rule records once a second. Of the
5,190 instructions that the server takes for a `GET` of 100 bytes, counting takes 90, hot keys included (callgrind, 64
commands per pipeline, the module built with and without it). Memory: 450 bytes for a rule that is never used. A used
rule keeps at most 122 past moments of 360 bytes each, or 1,000 bytes where callers waited: 44 KB for a rule that is read
in every second, 120 KB if callers also wait in every second. Idle seconds cost nothing.
[`SMARTCACHE.HOTKEYS`](commands.md#smartcachehotkeys) takes about 120 KB.

Percentiles of waits come from a histogram of 160 buckets: exact below 16 ms, to within a sixteenth above.
";

fn main() -> ExitCode {
    let check = match env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => {
            eprintln!("docs: unknown argument '{other}': use --check or none");
            return ExitCode::FAILURE;
        }
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let with_examples = EXAMPLES.iter().map(|(page, paths)| (*page, with_examples(&read(page), paths, read)));
    let pages = [
        ("docs/operations.md", operations(&read("docs/operations.md"), read)),
        ("docs/commands.md", commands()),
        ("docs/config.md", config()),
        ("docs/statistics.md", statistics()),
    ];
    let mut stale = false;
    for (name, text) in pages.into_iter().chain(with_examples) {
        let path = root.join(name);
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        if check {
            eprintln!("docs: {name} is not what the code says: run `make docs`");
            stale = true;
        } else {
            fs::write(&path, text).expect("the page can be written");
            println!("docs: {name}");
        }
    }
    if stale { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The documented commands: without internal ones and containers.
fn public() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().copied().filter(|command| !command.has(Flag::Internal) && command.run.is_some())
}

/// The page with `text` between two markers.
fn between(page: &str, open: &str, close: &str, text: &str) -> String {
    let (before, rest) = page.split_once(open).unwrap_or_else(|| panic!("the page has no {open}"));
    let (_, after) = rest.split_once(close).unwrap_or_else(|| panic!("the page has no {close} after {open}"));
    format!("{before}{open}\n{text}{close}{after}")
}

/// The page with the programs of `examples/`, which the tests run.
fn with_examples(page: &str, paths: &[&str], read: impl Fn(&str) -> String) -> String {
    paths.iter().fold(page.to_owned(), |page, path| {
        let program = read(&format!("examples/{path}"));
        let name = path.rsplit('/').next().unwrap_or(path);
        let language = LANGUAGES.iter().find(|(ending, _)| name.rsplit('.').next() == Some(ending)).map_or("", |l| l.1);
        between(&page, &format!("<!-- example {name} -->"), EXAMPLE_ENDS, &format!("```{language}\n{program}```\n"))
    })
}

/// The page with the files for Prometheus, which the tests use.
fn with_files(page: &str, read: impl Fn(&str) -> String) -> String {
    FILES.iter().fold(page.to_owned(), |page, name| {
        between(&page, &format!("<!-- file {name} -->"), FILE_ENDS, &format!("```yaml\n{}```\n", read(name)))
    })
}

/// One row per command, with a link to its section.
fn table() -> String {
    let mut out = String::from("| command | what it does |\n|---|---|\n");
    for command in public() {
        line(&mut out, format_args!("| [`{}`](#{}) | {} |", command.name, anchor(command.name), command.summary));
    }
    out
}

fn commands() -> String {
    let mut out = format!("{NOTICE}{COMMANDS_INTRO}\n{}", table());
    for command in public() {
        line(&mut out, format_args!("\n## {}\n\n{}.\n", command.name, command.summary));
        line(&mut out, format_args!("```text\n{}\n```", wrapped(&command.grammar())));
        for paragraph in command.details.lines() {
            line(&mut out, format_args!("\n{}", escaped(paragraph)));
        }
        line(&mut out, format_args!("\n- **Replies:** {}", ended(&escaped(command.replies))));
        line(&mut out, format_args!("- **Cost:** {}.", command.complexity));
        line(&mut out, format_args!("- **Permissions:** {}.", permissions(command)));
        if command.has(Flag::PassedOn) {
            line(
                &mut out,
                format_args!("- **In a cluster:** passed on to the other primaries, see [cluster.md](cluster.md)."),
            );
        }
        line(&mut out, format_args!("- **Since:** {}.", command.since));
    }
    out
}

fn config() -> String {
    let mut out = format!("{NOTICE}{CONFIG_INTRO}\n| setting | default |\n|---|---|\n");
    for setting in SETTINGS {
        line(&mut out, format_args!("| [`{0}`](#{0}) | {1} |", setting.name, code(setting.default)));
    }
    for setting in SETTINGS {
        line(&mut out, format_args!("\n## {}\n\n{}\n", setting.name, escaped(setting.doc)));
        line(&mut out, format_args!("- **Default:** {}.", code(setting.default)));
        line(&mut out, format_args!("- **Allowed:** {}.", setting.allowed()));
    }
    out
}

fn statistics() -> String {
    let mut out = format!("{NOTICE}{STATISTICS_INTRO}\n| field | what it is |\n|---|---|\n");
    for field in FIELDS {
        line(&mut out, format_args!("| `{}` | {} |", field.name, escaped(field.means)));
    }
    out + STATISTICS_END
}

/// The operations page with its files and the reasons of `HEALTH`.
fn operations(page: &str, read: impl Fn(&str) -> String) -> String {
    between(&with_files(page, read), OPEN_REASONS, CLOSE_REASONS, &reasons())
}

/// The table of the reasons of `HEALTH`.
fn reasons() -> String {
    let mut out = String::from("| code | when | what to do |\n|---|---|---|\n");
    for (code, when, what) in REASONS {
        line(&mut out, format_args!("| `{code}` | {} | {} |", escaped(when), escaped(what)));
    }
    out
}

/// The permissions that an ACL user needs.
fn permissions(command: &Command) -> String {
    let categories: Vec<_> = command.categories().iter().map(|name| format!("`@{name}`")).collect();
    let keys = match command.keys {
        Keys::None => "",
        Keys::One(Access::Read) => "; `%R` on the key",
        Keys::All(Access::Read) | Keys::CountedPairs(Access::Read) | Keys::OfNative(Access::Read) => {
            "; `%R` on each key"
        }
        Keys::One(_) => "; `%W` on the key",
        Keys::All(_) | Keys::CountedPairs(_) | Keys::OfNative(_) => "; `%W` on each key",
    };
    format!("{}{keys}", categories.join(" "))
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a String does not fail");
}

/// The anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// A value as code; `nothing` if empty.
fn code(value: &str) -> String {
    if value.is_empty() { "nothing".into() } else { format!("`{value}`") }
}

/// Text with markdown characters escaped.
fn escaped(text: &str) -> String {
    text.replace('_', "\\_").replace('*', "\\*").replace('|', "\\|").replace('<', "\\<")
}

fn ended(text: &str) -> String {
    if text.ends_with('.') { text.into() } else { format!("{text}.") }
}

/// The grammar on several lines, broken between groups, or at a `|` in long groups.
fn wrapped(grammar: &str) -> String {
    let mut groups: Vec<String> = Vec::new();
    let mut depth = 0;
    for word in grammar.split(' ') {
        match groups.last_mut() {
            Some(group) if depth > 0 && !(group.len() > GRAMMAR_WIDTH / 2 && group.ends_with('|')) => {
                group.push(' ');
                group.push_str(word);
            }
            _ => groups.push(word.into()),
        }
        depth += word.matches('[').count();
        depth -= word.matches(']').count();
    }
    let (mut out, mut width) = (String::new(), 0);
    for group in groups {
        if width > 0 && width + group.len() > GRAMMAR_WIDTH {
            out.push_str("\n   ");
            width = 3;
        }
        if width > 0 {
            out.push(' ');
        }
        width += group.chars().count() + 1;
        out.push_str(&group);
    }
    out
}

#[cfg(test)]
mod tests {
    use smartcache::testing::TestNode;

    use super::*;

    const PROMPT: &str = "127.0.0.1:6379> ";

    /// Splits a line into words like a shell.
    fn words(line: &str) -> Vec<Vec<u8>> {
        let (mut words, mut quote, mut word) = (Vec::new(), None, None::<String>);
        for c in line.chars().chain([' ']) {
            match quote {
                Some(open) if c == open => quote = None,
                None if c == '"' || c == '\'' => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                None if c == ' ' => words.extend(word.take().map(String::into_bytes)),
                _ => word.get_or_insert_default().push(c),
            }
        }
        words
    }

    fn call(node: &mut TestNode, line: &str) -> String {
        let words = words(line);
        node.call_words(&words.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    #[test]
    fn the_session_of_the_readme_is_correct() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let readme = fs::read_to_string(root.join("README.md")).unwrap();
        let mut node = TestNode::at(1_000_000);
        let mut shown = 0;
        let mut token: Option<(String, String)> = None; // shown and actual
        for block in readme.split("```").skip(1).step_by(2) {
            let mut lines = block.lines().peekable();
            while let Some(line) = lines.next() {
                let Some(command) = line.strip_prefix(PROMPT).filter(|line| line.starts_with("SMARTCACHE.")) else {
                    continue;
                };
                let mut answer = Vec::new();
                while let Some(line) = lines.next_if(|line| !line.starts_with(PROMPT)) {
                    answer.push(line.replace('\\', "").replace("(integer) ", ""));
                }
                let command = token.as_ref().map_or(command.to_owned(), |(shown, got)| command.replace(shown, got));
                let got = call(&mut node, &command).replace('\\', "");
                if answer.first().is_some_and(|state| state == "1) \"MISS\"") {
                    let got = got.split(", ").nth(2).expect("a token");
                    let bare = |text: &str| text.replace("3) ", "").trim_matches('"').to_owned();
                    token = Some((bare(&answer[2]), bare(got)));
                }
                match &answer[..] {
                    [one] => assert_eq!(&got, one, "{command}"),
                    // Longer answers contain times, which differ: the first line has the state.
                    many => assert!(got.contains(many[0].trim_start_matches("1) ")), "{command}: {got}"),
                }
                shown += 1;
            }
        }
        assert!(shown >= 8, "only {shown} examples were found");
    }

    #[test]
    fn a_grammar_is_broken_between_its_groups() {
        for command in public() {
            let wrapped = wrapped(&command.grammar());
            assert_eq!(wrapped.split_whitespace().collect::<Vec<_>>().join(" "), command.grammar());
            assert!(wrapped.lines().all(|line| line.chars().count() <= GRAMMAR_WIDTH + 10), "{wrapped}");
        }
    }
}
