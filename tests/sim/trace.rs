//! What happened last, for the one run that failed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Lines kept.
const LINES: usize = 80;

/// The last lines of a run, or nothing: writing them costs more than the run.
#[derive(Clone, Default)]
pub(crate) struct Trace(Option<Rc<RefCell<VecDeque<String>>>>);

impl Trace {
    /// A trace that keeps its lines.
    pub(crate) fn kept() -> Trace {
        Trace(Some(Rc::default()))
    }

    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        let Some(lines) = &self.0 else { return };
        let mut lines = lines.borrow_mut();
        if lines.len() == LINES {
            lines.pop_front();
        }
        let mut line = line();
        line.truncate(line.floor_char_boundary(1000));
        lines.push_back(line);
    }

    pub(crate) fn text(&self) -> String {
        let lines = self.0.iter().flat_map(|lines| lines.borrow().clone());
        lines.map(|line| line + "\n").collect()
    }
}
