//! X25519 for a client that connects thousands of times a second: one key pair for all of its
//! connections.
//!
//! Making a key pair is about an eighth of what a handshake costs a client. A server cannot tell
//! the difference, and does all of its own part. Sessions are less secret than they should be
//! (RFC 9325 section 7.4 advises against it): this is for [`Connector`](crate::tls::Connector), whose
//! requests are made up, and not for a tracker.

use std::sync::OnceLock;

use aws_lc_rs::agreement::{PrivateKey, PublicKey, UnparsedPublicKey, X25519, agree};
use rustls::crypto::{ActiveKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved};

/// X25519 (RFC 7748) by a key pair that is made once in a process.
#[derive(Debug)]
pub(super) struct LastingX25519;

struct KeyPair {
    private: PrivateKey,
    public: PublicKey,
}

impl KeyPair {
    /// The one of this process; nothing if there is no randomness for it.
    fn lasting() -> Option<&'static KeyPair> {
        static MADE: OnceLock<Option<KeyPair>> = OnceLock::new();
        let make = || {
            let private = PrivateKey::generate(&X25519).ok()?;
            let public = private.compute_public_key().ok()?;
            Some(KeyPair { private, public })
        };
        MADE.get_or_init(make).as_ref()
    }
}

impl SupportedKxGroup for LastingX25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        KeyPair::lasting()
            .map(|keys| Box::new(Exchange { keys }) as Box<dyn ActiveKeyExchange>)
            .ok_or_else(|| GetRandomFailed.into())
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }
}

struct Exchange {
    keys: &'static KeyPair,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let refused = Error::from(PeerMisbehaved::InvalidKeyShare);
        let peer = UnparsedPublicKey::new(&X25519, peer);
        agree(&self.keys.private, peer, refused, |secret| Ok(SharedSecret::from(secret)))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn pub_key(&self) -> &[u8] {
        self.keys.public.as_ref()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}
