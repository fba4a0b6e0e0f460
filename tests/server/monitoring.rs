//! The setup of `docs/operations.md` with the real programs: redis_exporter with `scripts/exporter.lua`, Prometheus
//! with `scripts/prometheus.yml`, promtool for the alerts. `scripts/setup monitoring` installs them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use smartcache::cache::stats::health::REASONS;

use crate::support::{SOON, Server, free_port, skip, wait_until};

/// The exporter's user in `docs/operations.md`.
const EXPORTER_ACL: &str = "ACL SETUSER exporter on >password +ping +client|setname +info +config|get +slowlog +latency +eval +smartcache.stats";
/// Metrics that change by themselves between two scrapes.
const RESTLESS: &[&str] =
    &["smartcache_uptime_seconds", "smartcache_counting_seconds", "smartcache_requests_per_second"];

#[test]
fn the_exporter_exposes_every_number() {
    let s = busy_server();
    let Some(exporter) = Exporter::start(&s, &["-redis.user", "exporter", "-redis.password", "password"]) else {
        skip!(s, "redis_exporter is missing (Debian: prometheus-redis-exporter; `scripts/setup monitoring`)");
    };
    let scrape = exporter.scrape();
    let steady = |numbers: BTreeMap<String, f64>| -> BTreeMap<String, f64> {
        numbers.into_iter().filter(|(name, _)| !RESTLESS.iter().any(|other| name.starts_with(other))).collect()
    };
    let mut handed = handed(&scrape);
    assert_eq!(handed.remove("smartcache_up"), Some(1.0));
    let direct = s.ok("SMARTCACHE.STATS RULES PROMETHEUS").text();
    let direct =
        direct.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').expect("a sample"));
    let direct = direct.map(|(name, number)| (name.to_owned(), number.parse().expect("a number"))).collect();
    assert_eq!(steady(handed.clone()), steady(direct), "{scrape}");

    // The map of STATS has the same numbers under other names.
    for (rule, hits, misses) in [("user", 2.0, 2.0), ("idle-1.2:3", 0.0, 0.0), ("(none)", 1.0, 0.0)] {
        assert_eq!(handed[&format!("smartcache_hits_total{{rule=\"{rule}\"}}")], hits, "{rule}");
        assert_eq!(handed[&format!("smartcache_misses_total{{rule=\"{rule}\"}}")], misses, "{rule}");
    }
    // Each reason of HEALTH is always exported: an alert on a series that disappears would not resolve.
    let health = |number: f64| {
        let named = REASONS.iter().map(move |(code, ..)| (format!("smartcache_health{{reason=\"{code}\"}}"), number));
        named.collect::<BTreeMap<_, _>>()
    };
    let reasons = |handed: &BTreeMap<String, f64>| {
        let of_health = handed.iter().filter(|(name, _)| name.starts_with("smartcache_health"));
        of_health.map(|(name, number)| (name.clone(), *number)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(reasons(&handed), health(0.0));
    provoke_a_warning(&s);
    let mut wanted = health(0.0);
    wanted.insert("smartcache_health{reason=\"fills_refused\"}".into(), 1.0);
    assert_eq!(reasons(&self::handed(&exporter.scrape())), wanted);

    assert!(scrape.contains("\nredis_up 1\n"), "{scrape}");
    assert_eq!(s.ok("ACL LOG").array().len(), 0, "the user may run every command of the exporter");

    // Exit code 3: lint warnings about the exporter's own names. Exit code 1: cannot be parsed.
    let Some((code, output)) = promtool(&["check", "metrics"], &scrape) else {
        skip!(s, "promtool is missing (Debian: prometheus; `scripts/setup monitoring`)");
    };
    assert!(matches!(code, Some(0 | 3)), "{code:?}: {output}");
    assert!(!output.contains("redis_script_values") && !output.contains("smartcache"), "{output}");
}

#[test]
fn a_server_without_the_module_is_exported_as_such() {
    for s in [Server::setup().without_module().tcp().start(), busy_server()] {
        let mut words = &[][..];
        if s.call("SMARTCACHE.STATS").is_error() {
            s.ok("SET k v");
        } else {
            s.ok("ACL SETUSER exporter on >password +@all -@dangerous +info +config|get -smartcache.stats");
            words = &["-redis.user", "exporter", "-redis.password", "password"];
        }
        let Some(exporter) = Exporter::start(&s, words) else {
            skip!(s, "redis_exporter is missing (Debian: prometheus-redis-exporter; `scripts/setup monitoring`)");
        };
        let scrape = exporter.scrape();
        assert_eq!(handed(&scrape), BTreeMap::from([("smartcache_up".to_owned(), 0.0)]));
        assert!(scrape.contains("\nredis_up 1\n"), "{scrape}");
    }
}

#[test]
fn the_dashboard_and_the_alerts_query_existing_metrics() {
    let s = busy_server();
    let Some(exporter) = Exporter::start(&s, &[]) else {
        skip!(s, "redis_exporter is missing (Debian: prometheus-redis-exporter; `scripts/setup monitoring`)");
    };
    let scrape = exporter.scrape();
    let name = |line: &str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
    let exposed: BTreeSet<String> =
        handed(&scrape).keys().map(|line| name(line)).chain(scrape.lines().map(name)).collect();
    let asked = [panels(), alerts()].concat();
    assert!(asked.len() > 30, "{asked:?}");
    for (whence, query) in &asked {
        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let metrics: Vec<_> =
            words.filter(|word| word.starts_with("smartcache_") || word.starts_with("redis_")).collect();
        assert!(!metrics.is_empty(), "{whence}: {query}");
        for metric in metrics {
            assert!(exposed.contains(metric), "{whence} queries {metric}, which the exporter does not expose");
        }
    }

    let Some(prometheus) = Prometheus::start(exporter.port) else {
        skip!(s, "Prometheus is missing (Debian: prometheus; `scripts/setup monitoring`)");
    };
    // The rule is a label, as if Prometheus had scraped STATS itself; no label of the exporter is left.
    s.ok("SMARTCACHE.GET idle:1"); // else HEALTH may warn of a rule that never matches
    wait_until("Prometheus has scraped twice", || {
        s.ok("SMARTCACHE.GET user:1");
        !prometheus.ask("rate(smartcache_requests_total[1m])").is_empty()
    });
    let found = prometheus.ask("smartcache_sets_total{rule=\"user\"}");
    let [one] = &found[..] else { panic!("{found:?}") };
    assert_eq!(one["value"][1], "1", "{one}");
    let labels = one["metric"].as_object().expect("labels");
    assert_eq!(labels.keys().collect::<Vec<_>>(), ["__name__", "instance", "job", "rule"]);
    let rules: BTreeSet<_> =
        prometheus.ask("smartcache_entries").iter().map(|one| one["metric"]["rule"].to_string()).collect();
    assert_eq!(rules, BTreeSet::from(["\"(none)\"", "\"idle-1.2:3\"", "\"user\""].map(str::to_owned)));
    assert_eq!(prometheus.ask("smartcache_up")[0]["value"][1], "1");
    // Warnings of HEALTH come and go, but their series stay.
    let reasons = |query: &str| -> BTreeSet<String> {
        let reason = |one: &Value| one["metric"]["reason"].as_str().expect("a reason").to_owned();
        prometheus.ask(query).iter().map(reason).collect()
    };
    let all: BTreeSet<_> = REASONS.iter().map(|(code, ..)| (*code).to_owned()).collect();
    assert_eq!((reasons("smartcache_health"), reasons("smartcache_health > 0")), (all.clone(), BTreeSet::new()));
    provoke_a_warning(&s);
    let warned = BTreeSet::from(["fills_refused".to_owned()]);
    wait_until("the warning appears", || reasons("smartcache_health > 0") == warned);
    wait_until("its alert waits for five minutes", || {
        reasons("ALERTS{alertname=\"SmartCacheHealth\",alertstate=\"pending\"}") == warned
    });
    let labels = prometheus.ask("smartcache_health > 0")[0]["metric"].as_object().expect("labels").clone();
    assert_eq!(labels.keys().collect::<Vec<_>>(), ["__name__", "instance", "job", "reason"]);
    s.ok("SMARTCACHE.RESETSTAT");
    wait_until("the warning is resolved", || reasons("smartcache_health > 0").is_empty());
    assert_eq!(reasons("smartcache_health"), all);
    wait_until("its alert is resolved", || prometheus.ask("ALERTS{alertname=\"SmartCacheHealth\"}").is_empty());
    s.ok("SMARTCACHE.MGET user:1 user:2 other"); // counters to show after the reset
    assert!(prometheus.ask("{__name__=~'redis_script.*'}").is_empty());

    for (whence, query) in panels() {
        let query = [("$instance", ".*"), ("$rule", ".*"), ("$__rate_interval", "1m")]
            .iter()
            .fold(query, |query, (variable, value)| query.replace(variable, value));
        let found = prometheus.ask(&query);
        // Shows a limit only where one is set.
        assert!(!found.is_empty() || query.contains("redis_memory_max_bytes"), "{whence} shows nothing: {query}");
    }
    let loaded = prometheus.get("/api/v1/rules")["data"]["groups"][0]["rules"].as_array().expect("rules").len();
    assert_eq!(loaded, alerts().len());
    for (_, query) in alerts() {
        prometheus.ask(&query); // panics on an error
    }
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::copy(root().join("scripts/alerts.yml"), dir.path().join("alerts.yml")).expect("copied");
    let played = root().join("tests/server/monitoring/alerts.test.yml");
    let path = dir.path().join("alerts.test.yml");
    fs::copy(played, &path).expect("copied");
    let alerts = root().join("scripts/alerts.yml");
    for words in [["check", "rules", &alerts.to_string_lossy()], ["test", "rules", &path.to_string_lossy()]] {
        let Some((code, output)) = promtool(&words, "") else {
            skip!(Server::start(), "promtool is missing (Debian: prometheus; `scripts/setup monitoring`)");
        };
        assert_eq!(code, Some(0), "{output}");
    }
}

// ---- test data ----

/// Three rows with values in most columns.
fn busy_server() -> Server {
    let s = Server::setup().tcp().start();
    s.ok(EXPORTER_ACL);
    s.ok("SMARTCACHE.RULE SET user MATCH user:*");
    s.ok("SMARTCACHE.RULE SET idle-1.2:3 MATCH idle:*");
    s.ok("SMARTCACHE.MGET user:1 user:2");
    let token = s.getlock("other").token().to_owned();
    s.fill("other", "v", &token);
    s.ok("SMARTCACHE.RESETSTAT");
    s.ok("SMARTCACHE.SET user:1 v");
    s.ok("SMARTCACHE.MGET user:1 user:1 other user:2 user:3");
    s
}

/// Five fills with invalid tokens: one reason of HEALTH.
fn provoke_a_warning(s: &Server) {
    (0..5).for_each(|_| assert_eq!(s.fill("other", "v", "bogus"), "LOST"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The queries of the dashboard, each with the title of its panel.
fn panels() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("scripts/grafana.json")).expect("it is there");
    let dashboard: Value = serde_json::from_str(&text).expect("it is JSON");
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().expect("targets") {
            let text = |value: &Value| value.as_str().expect("text").to_owned();
            found.push((text(&panel["title"]), text(&target["expr"])));
        }
    }
    found
}

/// The names and expressions of the alerts; parses only the YAML that the file uses.
fn alerts() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("scripts/alerts.yml")).expect("it is there");
    let alerts = text.split("- alert: ").skip(1).map(|alert| {
        let (name, rest) = alert.split_once('\n').expect("a line");
        let expr = rest.split_once("expr:").expect("an expression").1.trim_start_matches([' ', '|', '\n']);
        let end = ["\n        for:", "\n        labels:"].iter().filter_map(|next| expr.find(next)).min();
        (name.to_owned(), expr[..end.expect("labels follow")].to_owned())
    });
    alerts.collect()
}

/// The metrics of the script: `smartcache_hits_total{rule="user"}` and its value.
fn handed(scrape: &str) -> BTreeMap<String, f64> {
    let samples = scrape.lines().filter_map(|line| line.strip_prefix("redis_script_values{"));
    let parsed = samples.map(|line| {
        let (labels, number) = line.rsplit_once("} ").expect("a sample");
        let key = labels.split("key=\"").nth(1).expect("the label key");
        let key = key.strip_suffix('"').unwrap_or(key).replace("\\\"", "\"");
        (key, number.parse().expect("a number"))
    });
    parsed.collect()
}

/// Exit code and output of promtool; `None` without promtool.
fn promtool(words: &[&str], input: &str) -> Option<(Option<i32>, String)> {
    let mut command = Command::new(installed(&["promtool"])?);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
    let out = child.wait_with_output().expect("it ends");
    Some((out.status.code(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()))
}

fn installed(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut paths = names.iter().flat_map(|name| std::env::split_paths(&path).map(move |dir| dir.join(name)));
    paths.find(|path| path.exists())
}

// ---- the programs ----

/// redis_exporter with our script, for one server.
struct Exporter {
    port: u16,
    _daemon: Daemon,
}

impl Exporter {
    /// `None` if it is not installed.
    fn start(s: &Server, words: &[&str]) -> Option<Exporter> {
        let program = installed(&["prometheus-redis-exporter", "redis_exporter"])?;
        let daemon = Daemon::start(|port| {
            let mut command = Command::new(&program);
            command.arg("-redis.addr").arg(format!("redis://127.0.0.1:{}", s.port())).args(words);
            command.arg("-web.listen-address").arg(format!("127.0.0.1:{port}"));
            command.arg("-script").arg(root().join("scripts/exporter.lua"));
            command
        });
        Some(Exporter { port: daemon.port, _daemon: daemon })
    }

    fn scrape(&self) -> String {
        http(self.port, "/metrics").expect("it answers")
    }
}

/// Prometheus with our configuration, every second.
struct Prometheus {
    daemon: Daemon,
    _dir: tempfile::TempDir,
}

impl Prometheus {
    /// `None` if it is not installed.
    fn start(exporter: u16) -> Option<Prometheus> {
        let program = installed(&["prometheus"])?;
        let dir = tempfile::tempdir().expect("a directory");
        let conf = fs::read_to_string(root().join("scripts/prometheus.yml")).expect("it is there");
        let (ours, theirs) = (format!("127.0.0.1:{exporter}"), "127.0.0.1:9121");
        assert!(conf.contains(theirs) && conf.contains("scrape_interval: 15s"), "{conf}");
        let conf = conf.replace(theirs, &ours).replace("scrape_interval: 15s", "scrape_interval: 1s");
        let conf = format!("global: {{evaluation_interval: 1s}}\n{conf}");
        fs::write(dir.path().join("prometheus.yml"), conf).expect("written");
        fs::copy(root().join("scripts/alerts.yml"), dir.path().join("alerts.yml")).expect("copied");
        let daemon = Daemon::start(|port| {
            let mut command = Command::new(&program);
            command.arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()));
            command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
            command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
            command
        });
        wait_until("Prometheus is ready", || http(daemon.port, "/-/ready").is_ok());
        Some(Prometheus { daemon, _dir: dir })
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let text = http(self.daemon.port, path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer
    }

    #[track_caller]
    fn ask(&self, query: &str) -> Vec<Value> {
        let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        self.get(&format!("/api/v1/query?query={query}"))["data"]["result"].as_array().expect("samples").clone()
    }
}

/// A program that listens on a local port and ends with the test.
struct Daemon {
    port: u16,
    child: Child,
    _dir: tempfile::TempDir,
}

impl Daemon {
    #[track_caller]
    fn start(command: impl Fn(u16) -> Command) -> Daemon {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log_text = String::new();
        // The free port may be taken meanwhile: then the program exits.
        for _ in 0..4 {
            let port = free_port();
            let mut command = command(port);
            let log = || fs::OpenOptions::new().create(true).append(true).open(dir.path().join("log")).expect("a log");
            command.stdin(Stdio::null()).stdout(log()).stderr(log());
            // SAFETY: prctl is async-signal-safe and touches nothing of ours. It ends the program with the test's
            // thread.
            unsafe {
                command.pre_exec(|| {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    Ok(())
                });
            }
            let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
            let mut ended = false;
            wait_until("it listens", || {
                ended = child.try_wait().expect("our own child can be asked").is_some();
                ended || TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
            if !ended {
                return Daemon { port, child, _dir: dir };
            }
            log_text = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        }
        panic!("it does not start:\n{log_text}")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of a response with status 200. In HTTP/1.0 it ends with the connection.
fn http(port: u16, path: &str) -> io::Result<String> {
    let mut conn = TcpStream::connect(("127.0.0.1", port))?;
    conn.set_read_timeout(Some(SOON))?;
    conn.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    conn.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let ok = head.split(' ').nth(1) == Some("200");
    if ok { Ok(body.to_owned()) } else { Err(io::Error::other(format!("{head}\n{body}"))) }
}
