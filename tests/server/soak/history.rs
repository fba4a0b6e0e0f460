//! The recorded history: command, answer and times, one line per step, readable by people and by the checker.
//!
//! ```text
//! 12.031000 12.940000 c17 db0 | SMARTCACHE.GETLOCK a1 LOCK 100ms WAIT 50ms | MISS nil dG9rZW4 0 100
//!  sent      answered  client  |  command                                   |  answer
//! ```
//!
//! Times are milliseconds of the test's clock. Values are shortened to their names, without padding. Instead of an
//! answer: `gone` (the server closed the connection), `left` (the client did), `silence` (a time-out).

use std::fmt;

/// A command or an event, with its begin and end in nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) sent: u64,
    pub(crate) ended: u64,
    /// The server's id of the connection; 0 for the origin and the test itself.
    pub(crate) conn: u64,
    pub(crate) db: u8,
    pub(crate) words: Box<str>,
    pub(crate) answer: Box<str>,
}

impl Step {
    pub(crate) fn is_answered(&self) -> bool {
        !matches!(&*self.answer, "gone" | "left" | "silence")
    }

    pub(crate) fn parse(line: &str) -> Option<Step> {
        let mut parts = line.splitn(3, " | ");
        let (mut head, words, answer) = (parts.next()?.split_whitespace(), parts.next()?, parts.next()?);
        let mut ns = || Some((head.next()?.parse::<f64>().ok()? * 1e6).round() as u64);
        let (sent, ended) = (ns()?, ns()?);
        let conn = head.next()?.strip_prefix('c')?.parse().ok()?;
        let db = head.next()?.strip_prefix("db")?.parse().ok()?;
        Some(Step { sent, ended, conn, db, words: words.trim().into(), answer: answer.trim().into() })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step { conn, db, words, answer, .. } = self;
        write!(f, "{:.6} {:.6} c{conn} db{db} | {words} | {answer}", ms(self.sent), ms(self.ended))
    }
}

/// Nanoseconds as milliseconds.
pub(crate) fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

#[test]
fn a_step_is_read_as_it_was_written() {
    let line = "12.031000 12.940001 c17 db2 | SMARTCACHE.GETLOCK a1 LOCK 100ms | MISS nil dG9rZW4 0 100";
    assert_eq!(Step::parse(line).map(|step| step.to_string()).as_deref(), Some(line));
}
