//! `SMARTCACHE.PANIC`: panics, so that tests can see that no panic kills the server or leaves it out of step. Never
//! in a release.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::args::{Args, is};
use super::spec::{Arg, Command, Flag, Keys, Kind, Run};
use crate::cache::Cx;
use crate::cache::error::Error;

/// The declaration.
pub(super) const COMMAND: Command = Command {
    name: "SMARTCACHE.PANIC",
    summary: "Panics, for tests",
    since: "0.1.0",
    complexity: "O(1)",
    arity: -1,
    flags: &[Flag::Internal],
    keys: Keys::None,
    args: &[
        Arg::new("how", Kind::Text).or_none(),
        Arg::block("where", &[Arg::new("place", Kind::Text), Arg::new("passes", Kind::Integer)]).or_none(),
    ],
    details: "\
Only in builds with the feature test-commands.
Without words, before anything is done; ARRAY and MAP, in the midst of a reply; DONE, after a whole reply.
AT has the module panic at a place of its code, once it has passed there so many times.",
    replies: "An error; with AT, OK.",
    run: Some(Run::Plain(run)),
};

/// Where to panic, and after how many passes.
static ARMED: Mutex<Option<(Vec<u8>, u64)>> = Mutex::new(None);

#[allow(clippy::panic)] // what it is for
fn run<'w>(cx: &mut Cx<'_, 'w>, args: &mut Args<'w>) -> Result<(), Error> {
    match args.option() {
        None => {}
        Some(how) if is(how, "ARRAY") => {
            cx.reply.array(5);
            cx.reply.int(1);
        }
        Some(how) if is(how, "MAP") => {
            cx.reply.map(2);
            cx.reply.bulk(b"first");
            cx.reply.array(3);
            cx.reply.map(1);
            cx.reply.bulk(b"inner");
        }
        Some(how) if is(how, "DONE") => cx.reply.simple("DONE"),
        Some(how) if is(how, "AT") => {
            let place = args.word()?.to_vec();
            let passes = args.positive("passes", b"AT", u64::MAX)?;
            args.finish()?;
            cx.reply.simple("OK");
            *armed() = Some((place, passes));
            return Ok(());
        }
        Some(other) => return Err(Error::syntax(other)),
    }
    panic!("SMARTCACHE.PANIC was called")
}

fn armed() -> MutexGuard<'static, Option<(Vec<u8>, u64)>> {
    ARMED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place where `AT` can make the module panic.
#[allow(clippy::panic)] // what it is for
pub(crate) fn point(place: &str) {
    let mut armed = armed();
    let Some((_, passes)) = armed.as_mut().filter(|(wanted, _)| wanted == place.as_bytes()) else { return };
    *passes -= 1;
    if *passes == 0 {
        *armed = None;
        drop(armed);
        panic!("SMARTCACHE.PANIC wanted a panic in {place}");
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::TestNode;

    #[test]
    #[should_panic]
    fn it_panics() {
        TestNode::at(0).call("SMARTCACHE.PANIC");
    }
}
