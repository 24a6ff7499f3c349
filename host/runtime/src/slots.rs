//! Task ids of runs that are not over. Of each, a profile has one run at a time: whoever cancels by task id means that one.
//!
//! Per process: another process that shares the store counts its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use midplane_core::{Error, ProfileName, Result, RunId};

type Key = (ProfileName, String);

/// All that are taken.
#[derive(Clone, Default)]
pub(crate) struct Slots(Arc<Mutex<HashMap<Key, RunId>>>);

/// One that is taken, until it is dropped.
pub(crate) struct Slot {
    slots: Slots,
    key: Key,
}

impl Slots {
    /// Takes a task id for a run (`conflict`, code `task-active` while another run has it).
    pub(crate) fn take(&self, profile: &ProfileName, task_id: &str, run_id: &RunId) -> Result<Slot> {
        let key = (profile.clone(), task_id.to_owned());
        let mut taken = self.lock();
        if let Some(other) = taken.get(&key) {
            let shown = midplane_core::text::shown(task_id, 60);
            let message = format!("task `{shown}` of profile `{profile}` is run `{other}`, which is not over");
            return Err(Error::conflict("task-active", message)
                .hint("wait for its end, cancel it, or leave `task_id` out: each run then has one of its own"));
        }
        taken.insert(key.clone(), run_id.clone());
        Ok(Slot { slots: self.clone(), key })
    }

    /// The run that has a task id.
    pub(crate) fn run(&self, profile: &ProfileName, task_id: &str) -> Option<RunId> {
        self.lock().get(&(profile.clone(), task_id.to_owned())).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, RunId>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_id_is_taken_once_and_given_back() {
        let slots = Slots::default();
        let profile = ProfileName::new("a").expect("a name");
        let (one, two) = (RunId::from_parts(0, 1), RunId::from_parts(0, 2));
        let slot = slots.take(&profile, "t", &one).expect("free");
        assert_eq!(slots.take(&profile, "t", &two).err().expect("taken").code, "task-active");
        let other = ProfileName::new("b").expect("a name");
        assert!(slots.take(&other, "t", &two).is_ok());
        assert_eq!(slots.run(&profile, "t"), Some(one));
        drop(slot);
        assert_eq!(slots.run(&profile, "t"), None);
        assert!(slots.take(&profile, "t", &two).is_ok());
    }
}
