//! What the daemon signals, taken off the bus as it comes, whatever else is waited for meanwhile: a queue that is full holds up the
//! answers behind it. It must not know how a signal is shown.
//!
//! Anybody on the bus may send us a signal, so the sender is compared with the owner of the daemon's name.

use crate::dbus::{NAME, PATH};
use futures_core::Stream;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, error::TryRecvError, unbounded_channel};
use zbus::fdo::DBusProxy;
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream};

const DBUS: &str = "org.freedesktop.DBus";

/// All that the manager signals, and the coming and going of its name.
pub(super) struct Signals(UnboundedReceiver<Message>);

impl Signals {
    pub(super) async fn subscribe(bus: &Connection) -> zbus::Result<Signals> {
        let dbus = DBusProxy::new(bus).await?;
        let manager = MatchRule::builder().msg_type(Type::Signal).sender(NAME).path(PATH).build()?;
        let name = MatchRule::builder().msg_type(Type::Signal).sender(DBUS).member("NameOwnerChanged").arg(0, NAME);
        dbus.add_match_rule(manager).await?;
        dbus.add_match_rule(name.build()?).await?;
        let (sender, signals) = unbounded_channel();
        let owner = Owner::default();
        tokio::spawn(pump(MessageStream::from(bus), owner.clone(), sender));
        let now = dbus.get_name_owner(NAME.try_into()?).await.map(|owner| owner.to_string()).unwrap_or_default();
        owner.begin(now);
        Ok(Signals(signals))
    }

    /// The next signal; none when the bus is gone.
    pub(super) async fn next(&mut self) -> Option<Message> {
        self.0.recv().await
    }

    /// Forgets those that came already. False: the bus is gone.
    pub(super) fn skip(&mut self) -> bool {
        loop {
            match self.0.try_recv() {
                Ok(_) => {}
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }
}

/// Who has the daemon's name on this bus, by its unique name; empty if nobody has, nothing before that is known.
#[derive(Clone, Default)]
struct Owner(Arc<Mutex<Option<String>>>);

impl Owner {
    /// A change that was signalled meanwhile is at least as new.
    fn begin(&self, owner: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(owner);
    }

    fn set(&self, owner: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(owner);
    }

    fn is(&self, sender: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(sender)
    }
}

/// Ends with the bus, or when nobody listens any more.
async fn pump(mut stream: MessageStream, owner: Owner, to: UnboundedSender<Message>) {
    while let Some(Ok(message)) = poll_fn(|context| Pin::new(&mut stream).poll_next(context)).await {
        if message.message_type() == Type::Signal && believed(&message, &owner) && to.send(message).is_err() {
            return;
        }
    }
}

fn believed(message: &Message, owner: &Owner) -> bool {
    let header = message.header();
    let Some(sender) = header.sender() else { return false };
    if sender.as_str() != DBUS {
        return owner.is(sender.as_str());
    }
    let changed = header.member().is_some_and(|member| member.as_str() == "NameOwnerChanged");
    match message.body().deserialize::<(String, String, String)>() {
        Ok((name, _, new)) if changed && name == NAME => {
            owner.set(new);
            true
        }
        _ => false,
    }
}
