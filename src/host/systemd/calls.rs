//! What is asked of systemd and told to it: over the bus, and by `systemctl` where there is none. Whoever asks need not know which.
//! It must not know what an answer means for a group.

use super::bus::{
    BusError, Link, MANAGER, MANAGER_PATH, PROPERTIES, SYSTEMD, Systemd, UNIT, UnitState, Way, sort_error,
};
use super::{systemctl, without_bus};
use serde::de::DeserializeOwned;
use std::io;
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

/// Type, trigger, negate, parameter, state.
pub(super) type Assert = (String, bool, bool, String, i32);

/// What systemd says of the guards of a loaded unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Guarding {
    /// The asserts themselves.
    Asserts(Vec<Assert>),
    /// `systemctl` cannot print those: the drop-in files that were loaded, in their order.
    DropIns(Vec<String>),
}

impl Systemd {
    async fn call<B, R>(&self, link: &Link, path: &str, interface: &str, method: &str, body: &B) -> Result<R, BusError>
    where
        B: serde::Serialize + zbus::DynamicType,
        R: DeserializeOwned + zbus::Type,
    {
        let _room = link.room().await?;
        let reply = link.connection.call_method(Some(SYSTEMD), path, Some(interface), method, body).await;
        if let Err(zbus::Error::InputOutput(error)) = &reply
            && error.kind() == io::ErrorKind::TimedOut
        {
            link.give_up();
        }
        reply.map_err(sort_error)?.body().deserialize::<R>().map_err(sort_error)
    }

    async fn manage<B, R>(&self, link: &Link, method: &str, body: &B) -> Result<R, BusError>
    where
        B: serde::Serialize + zbus::DynamicType,
        R: DeserializeOwned + zbus::Type,
    {
        self.call(link, MANAGER_PATH, MANAGER, method, body).await
    }

    /// Queues a start. `fail`: it is refused if it contradicts a job that is queued.
    pub async fn start_unit(&self, unit: &str) -> Result<(), BusError> {
        match self.way().await {
            Way::Bus(link) => self.manage::<_, OwnedObjectPath>(&link, "StartUnit", &(unit, "fail")).await.map(drop),
            Way::Systemctl => without_bus::start(unit).await,
        }
    }

    /// Queues a stop, in place of whatever is queued.
    pub async fn stop_unit(&self, unit: &str) -> Result<(), BusError> {
        match self.way().await {
            Way::Bus(link) => self.manage::<_, OwnedObjectPath>(&link, "StopUnit", &(unit, "replace")).await.map(drop),
            Way::Systemctl => without_bus::stop(unit).await,
        }
    }

    pub async fn thaw_unit(&self, unit: &str) -> Result<(), BusError> {
        match self.way().await {
            Way::Bus(link) => self.manage(&link, "ThawUnit", &(unit,)).await,
            Way::Systemctl => without_bus::thaw(unit).await,
        }
    }

    /// Forgets a unit's failed state and its count of starts.
    pub async fn reset_failed(&self, unit: &str) -> Result<(), BusError> {
        match self.way().await {
            Way::Bus(link) => self.manage(&link, "ResetFailedUnit", &(unit,)).await,
            Way::Systemctl => without_bus::reset_failed(unit).await,
        }
    }

    /// The state of every unit of `names`, in that order. Loads what is not loaded.
    pub async fn list(&self, names: &[String]) -> Result<Vec<UnitState>, BusError> {
        match self.way().await {
            Way::Bus(link) => self.list_by_bus(&link, names).await,
            Way::Systemctl => without_bus::list(names).await,
        }
    }

    /// The same for units that are looked at all the time, by many: without a bus, it waits for the next look at all of them.
    pub(super) async fn list_watched(&self, names: &[String]) -> Result<Vec<UnitState>, BusError> {
        match self.way().await {
            Way::Bus(link) => self.list_by_bus(&link, names).await,
            Way::Systemctl => {
                let show = |names: Vec<String>| async move { without_bus::show(&names).await };
                self.shared.together.list(names, show).await
            }
        }
    }

    pub(super) async fn list_by_bus(&self, link: &Link, names: &[String]) -> Result<Vec<UnitState>, BusError> {
        type Row = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);
        let rows: Vec<Row> = self.manage(link, "ListUnitsByNames", &(names,)).await?;
        if rows.len() != names.len() {
            return Err(BusError::Unreachable(format!("asked for {} units, told of {}", names.len(), rows.len())));
        }
        let state = |(name, row): (&String, Row)| UnitState {
            name: name.clone(),
            load: row.2,
            active: row.3,
            sub: row.4,
            path: row.6.to_string(),
            job: (row.7 != 0).then_some(row.8),
        };
        Ok(names.iter().zip(rows).map(state).collect())
    }

    async fn get(&self, link: &Link, path: &str, interface: &str, name: &str) -> Result<OwnedVariant, BusError> {
        self.call(link, path, PROPERTIES, "Get", &(interface, name)).await
    }

    /// A property that is text, or nothing where it is missing or of another type.
    pub async fn text(&self, path: &str, interface: &str, name: &str) -> Result<String, BusError> {
        match self.way().await {
            Way::Bus(link) => Ok(String::try_from(self.get(&link, path, interface, name).await?).unwrap_or_default()),
            Way::Systemctl => Ok(without_bus::property(path, name).await?.unwrap_or_default()),
        }
    }

    /// A property of a unit that is a list of names; nothing where it cannot be read as one.
    pub async fn names(&self, path: &str, name: &str) -> Result<Option<Vec<String>>, BusError> {
        match self.way().await {
            Way::Bus(link) => Ok(Vec::<String>::try_from(self.get(&link, path, UNIT, name).await?).ok()),
            Way::Systemctl => Ok(without_bus::property(path, name).await?.map(|list| without_bus::words(&list))),
        }
    }

    /// A property that is a number; nothing where it cannot be read as one.
    pub async fn number(&self, path: &str, interface: &str, name: &str) -> Result<Option<i64>, BusError> {
        match self.way().await {
            Way::Bus(link) => Ok(match self.get(&link, path, interface, name).await?.into() {
                Variant::U64(number) => i64::try_from(number).ok(),
                Variant::U32(number) => Some(number.into()),
                Variant::I32(number) => Some(number.into()),
                _ => None,
            }),
            Way::Systemctl => Ok(without_bus::property(path, name).await?.and_then(|text| text.parse().ok())),
        }
    }

    /// A property of a unit that is true or false; nothing where it cannot be read as one.
    pub async fn flag(&self, path: &str, name: &str) -> Result<Option<bool>, BusError> {
        match self.way().await {
            Way::Bus(link) => Ok(bool::try_from(self.get(&link, path, UNIT, name).await?).ok()),
            Way::Systemctl => Ok(match without_bus::property(path, name).await?.as_deref() {
                Some("yes") => Some(true),
                Some("no") => Some(false),
                _ => None,
            }),
        }
    }

    pub(super) async fn guarding(&self, path: &str) -> Result<Guarding, BusError> {
        match self.way().await {
            Way::Bus(link) => {
                let asserts = self.get(&link, path, UNIT, "Asserts").await?;
                Ok(Guarding::Asserts(Vec::<Assert>::try_from(asserts).unwrap_or_default()))
            }
            Way::Systemctl => {
                let files = without_bus::property(path, "DropInPaths").await?.unwrap_or_default();
                Ok(Guarding::DropIns(without_bus::words(&files)))
            }
        }
    }

    /// Runs the generators and reads all units anew; ends when that is over. What follows from it comes as a signal.
    pub async fn reload(&self) -> Result<(), BusError> {
        match self.way().await {
            Way::Bus(link) => self.manage(&link, "Reload", &()).await,
            Way::Systemctl => without_bus::reload().await,
        }
    }

    /// Ends when systemd answers: a reload that was under way is over then.
    pub async fn answer(&self) -> Result<(), BusError> {
        self.system_state().await.map(drop)
    }

    /// Whether the host is going down.
    pub async fn stopping(&self) -> Result<bool, BusError> {
        Ok(self.system_state().await? == "stopping")
    }

    /// Whether this process ends, with its host, for rescue mode or alone: what goes down meanwhile is nobody's fault.
    pub async fn leaving(&self) -> Result<bool, BusError> {
        if matches!(self.system_state().await?.as_str(), "stopping" | "maintenance") {
            return Ok(true);
        }
        match self.own_job().await {
            Ok(job) => Ok(job.as_deref() == Some("stop")),
            // Run by hand, outside of any unit.
            Err(BusError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn system_state(&self) -> Result<String, BusError> {
        match self.way().await {
            Way::Bus(link) => {
                let state = self.get(&link, MANAGER_PATH, MANAGER, "SystemState").await?;
                Ok(String::try_from(state).unwrap_or_default())
            }
            Way::Systemctl => Ok(without_bus::manager_property("SystemState").await?.unwrap_or_default()),
        }
    }

    /// Reboots the host without stopping its units first (what `systemctl reboot --force` does): the last resort.
    pub async fn reboot(&self) -> Result<(), BusError> {
        match self.way().await {
            Way::Bus(link) => self.manage(&link, "Reboot", &()).await,
            Way::Systemctl => without_bus::reboot().await,
        }
    }

    /// The type of the job queued for this process's own unit, if there is one: `stop`, `restart`, …
    pub async fn own_job(&self) -> Result<Option<String>, BusError> {
        let link = match self.way().await {
            Way::Bus(link) => link,
            // By its name: systemctl tells of no unit by a process.
            Way::Systemctl => return without_bus::job_of(systemctl::OWN_UNIT).await,
        };
        let unit: OwnedObjectPath = self.manage(&link, "GetUnitByPID", &(std::process::id(),)).await?;
        let job = self.get(&link, unit.as_str(), UNIT, "Job").await?;
        let (id, path) = <(u32, OwnedObjectPath)>::try_from(job).map_err(sort_error)?;
        if id == 0 {
            return Ok(None);
        }
        let kind = self.get(&link, path.as_str(), "org.freedesktop.systemd1.Job", "JobType").await?;
        Ok(Some(String::try_from(kind).unwrap_or_default()))
    }
}
