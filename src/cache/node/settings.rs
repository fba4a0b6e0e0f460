//! A changed setting, and what follows from it.

use crate::cache::State;
use crate::cache::invalidation::database::Limits;
use crate::config::Settings;

impl State {
    /// Sets a setting, as `CONFIG SET smartcache.NAME` does.
    pub fn set_setting(&mut self, name: &[u8], value: &[u8]) -> Result<(), String> {
        let setting = crate::config::setting(name).ok_or("there is no such setting")?;
        let mut settings = self.settings.clone();
        setting.set(&mut settings, value)?;
        settings.check_limits(setting)?;
        self.load_setting(name, value)
    }

    /// Sets a setting as it is in a file or a module's arguments: a duration beyond its limit is no error, and bounded
    /// where it is used.
    pub fn load_setting(&mut self, name: &[u8], value: &[u8]) -> Result<(), String> {
        let setting = crate::config::setting(name).ok_or("there is no such setting")?;
        setting.set(&mut self.settings, value)?;
        self.policies.apply(self.settings.policy(), &self.settings.rules);
        let Settings { max_patterns, max_members, max_tags, .. } = self.settings;
        self.invalidations.set_limits(Limits { patterns: max_patterns as usize, postings: max_members as u64 });
        self.tags.set_limit(max_tags as usize);
        Ok(())
    }
}
