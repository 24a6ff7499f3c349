//! What an IP address is, for the egress gate: only [`AddressClass::Public`] is dialled without an address grant.
//!
//! The table follows the special-purpose address registries of IANA, read strictly: what is not clearly a public unicast
//! address is not public. An address that carries an IPv4 address inside (mapped, compatible, translated, NAT64, 6to4,
//! Teredo) is what the inner one is, because that is where the packet ends. Nothing is resolved here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// What kind of place an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// A unicast address of the public internet.
    Public,
    /// This machine.
    Loopback,
    /// `0.0.0.0/8` and `::`: "this network", which most systems connect to themselves.
    Unspecified,
    /// RFC 1918.
    Private,
    /// RFC 3927 and `fe80::/10`.
    LinkLocal,
    /// `fc00::/7`, and the deprecated `fec0::/10`.
    UniqueLocal,
    /// `100.64.0.0/10`, the inside of a provider's NAT.
    SharedNat,
    /// Answers with credentials of the machine, in known clouds.
    Metadata,
    /// One to many.
    Multicast,
    /// All of one network.
    Broadcast,
    /// Reserved for examples in documents.
    Documentation,
    /// Reserved for measurements of network equipment.
    Benchmarking,
    /// Cryptographic identifiers that look like addresses.
    Orchid,
    /// `64:ff9b:1::/48`: translated to an IPv4 address that only the local network knows.
    Translated,
    /// Everything else that is not public unicast.
    Reserved,
}

impl AddressClass {
    /// The words for a message.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Loopback => "loopback",
            Self::Unspecified => "unspecified",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::UniqueLocal => "unique-local",
            Self::SharedNat => "shared-nat",
            Self::Metadata => "cloud-metadata",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::Orchid => "orchid",
            Self::Translated => "locally-translated",
            Self::Reserved => "reserved",
        }
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The class of an address; of the inner one where an IPv4 address is embedded.
#[must_use]
pub fn address_class(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(v4) => class_v4(v4),
        IpAddr::V6(v6) => class_v6(v6),
    }
}

use AddressClass::{
    Benchmarking, Broadcast, Documentation, LinkLocal, Loopback, Metadata, Multicast, Orchid, Private, Public,
    Reserved, SharedNat, Translated, UniqueLocal, Unspecified,
};

fn class_v4(address: Ipv4Addr) -> AddressClass {
    // The first row that holds the address decides, so that a single address comes before its range.
    V4.iter().find(|(net, _)| net.contains(&address)).map_or(Public, |(_, class)| *class)
}

fn class_v6(address: Ipv6Addr) -> AddressClass {
    if let Some((_, class)) = V6.iter().find(|(net, _)| net.contains(&address)) {
        return *class;
    }
    let Some(inner) = embedded(address) else {
        // IANA gives out global unicast from this one block; what lies outside it is reserved.
        return if GLOBAL_UNICAST.contains(&address) { Public } else { Reserved };
    };
    inner.into_iter().flatten().map(class_v4).find(|class| *class != Public).unwrap_or(Public)
}

/// The IPv4 addresses inside an IPv6 address. Teredo has two, its server and its client; all others have one.
fn embedded(address: Ipv6Addr) -> Option<[Option<Ipv4Addr>; 2]> {
    let bits = u128::from(address);
    // The casts cut the 32 bits wanted out of the 128.
    let at = |shift: u32| Ipv4Addr::from((bits >> shift) as u32);
    if LOW_32.iter().any(|net| net.contains(&address)) {
        Some([Some(at(0)), None])
    } else if SIX_TO_FOUR.contains(&address) {
        Some([Some(at(80)), None])
    } else if TEREDO.contains(&address) {
        // The client's address is stored with every bit turned (RFC 4380, section 4).
        Some([Some(at(64)), Some(Ipv4Addr::from(!(bits as u32)))])
    } else {
        None
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(head: [u16; 4], tail: [u16; 4], prefix: u8) -> Ipv6Net {
    let [a, b, c, d] = head;
    let [e, f, g, h] = tail;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

const ZERO: [u16; 4] = [0; 4];

const V4: &[(Ipv4Net, AddressClass)] = &[
    // Instance metadata of most clouds; task and pod credentials of AWS; Alibaba; Oracle; the wire server of Azure,
    // which has a public address.
    (v4(169, 254, 169, 254, 32), Metadata),
    (v4(169, 254, 170, 2, 32), Metadata),
    (v4(169, 254, 170, 23, 32), Metadata),
    (v4(100, 100, 100, 200, 32), Metadata),
    (v4(192, 0, 0, 192, 32), Metadata),
    (v4(168, 63, 129, 16, 32), Metadata),
    (v4(0, 0, 0, 0, 8), Unspecified),
    (v4(10, 0, 0, 0, 8), Private),
    (v4(100, 64, 0, 0, 10), SharedNat),
    (v4(127, 0, 0, 0, 8), Loopback),
    (v4(169, 254, 0, 0, 16), LinkLocal),
    (v4(172, 16, 0, 0, 12), Private),
    (v4(192, 0, 0, 0, 24), Reserved),
    (v4(192, 0, 2, 0, 24), Documentation),
    (v4(192, 88, 99, 0, 24), Reserved), // 6to4 relay anycast, deprecated by RFC 7526
    (v4(192, 168, 0, 0, 16), Private),
    (v4(198, 18, 0, 0, 15), Benchmarking),
    (v4(198, 51, 100, 0, 24), Documentation),
    (v4(203, 0, 113, 0, 24), Documentation),
    (v4(224, 0, 0, 0, 4), Multicast),
    (v4(255, 255, 255, 255, 32), Broadcast),
    (v4(240, 0, 0, 0, 4), Reserved),
];

const V6: &[(Ipv6Net, AddressClass)] = &[
    // AWS instance metadata and pod credentials; Google; OpenStack.
    (v6([0xfd00, 0xec2, 0, 0], [0, 0, 0, 0x254], 128), Metadata),
    (v6([0xfd00, 0xec2, 0, 0], [0, 0, 0, 0x23], 128), Metadata),
    (v6([0xfd20, 0xce, 0, 0], [0, 0, 0, 0x254], 128), Metadata),
    (v6([0xfe80, 0, 0, 0], [0, 0, 0xa9fe, 0xa9fe], 128), Metadata),
    (v6(ZERO, ZERO, 128), Unspecified),
    (v6(ZERO, [0, 0, 0, 1], 128), Loopback),
    (v6([0x64, 0xff9b, 1, 0], ZERO, 48), Translated),
    (v6([0x2001, 2, 0, 0], ZERO, 48), Benchmarking),
    (v6([0x2001, 0x10, 0, 0], ZERO, 28), Orchid),
    (v6([0x2001, 0x20, 0, 0], ZERO, 28), Orchid),
    (v6([0x2001, 0xdb8, 0, 0], ZERO, 32), Documentation),
    (v6([0x3fff, 0, 0, 0], ZERO, 20), Documentation),
    (v6([0xfc00, 0, 0, 0], ZERO, 7), UniqueLocal),
    (v6([0xfe80, 0, 0, 0], ZERO, 10), LinkLocal),
    (v6([0xfec0, 0, 0, 0], ZERO, 10), UniqueLocal),
    (v6([0xff00, 0, 0, 0], ZERO, 8), Multicast),
    // Protocol assignments (RFC 2928): all of `2001::/23` but Teredo, whose block is written as what it leaves over.
    (v6([0x2001, 1, 0, 0], ZERO, 32), Reserved),
    (v6([0x2001, 2, 0, 0], ZERO, 31), Reserved),
    (v6([0x2001, 4, 0, 0], ZERO, 30), Reserved),
    (v6([0x2001, 8, 0, 0], ZERO, 29), Reserved),
    (v6([0x2001, 0x10, 0, 0], ZERO, 28), Reserved),
    (v6([0x2001, 0x20, 0, 0], ZERO, 27), Reserved),
    (v6([0x2001, 0x40, 0, 0], ZERO, 26), Reserved),
    (v6([0x2001, 0x80, 0, 0], ZERO, 25), Reserved),
    (v6([0x2001, 0x100, 0, 0], ZERO, 24), Reserved),
];

/// Forms that hold an IPv4 address in their last 32 bits: mapped, compatible, translated (RFC 7915), NAT64.
const LOW_32: &[Ipv6Net] = &[
    v6(ZERO, [0, 0xffff, 0, 0], 96),
    v6(ZERO, ZERO, 96),
    v6(ZERO, [0xffff, 0, 0, 0], 96),
    v6([0x64, 0xff9b, 0, 0], ZERO, 96),
];
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0], ZERO, 16);
const TEREDO: Ipv6Net = v6([0x2001, 0, 0, 0], ZERO, 32);
const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0, 0, 0], ZERO, 3);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn class(text: &str) -> AddressClass {
        address_class(text.parse().unwrap())
    }

    #[test]
    fn table() {
        for (text, want) in [
            ("1.1.1.1", Public),
            ("172.15.255.255", Public),
            ("172.32.0.0", Public),
            ("100.63.255.255", Public),
            ("100.128.0.0", Public),
            ("11.0.0.0", Public),
            ("223.255.255.255", Public),
            ("198.20.0.0", Public),
            ("0.0.0.0", Unspecified),
            ("0.255.1.2", Unspecified),
            ("10.0.0.1", Private),
            ("172.16.0.0", Private),
            ("172.31.255.255", Private),
            ("192.168.255.1", Private),
            ("100.64.0.1", SharedNat),
            ("100.127.255.255", SharedNat),
            ("127.0.0.1", Loopback),
            ("127.255.255.254", Loopback),
            ("169.254.0.1", LinkLocal),
            ("169.254.169.254", Metadata),
            ("169.254.170.2", Metadata),
            ("100.100.100.200", Metadata),
            ("168.63.129.16", Metadata),
            ("192.0.0.192", Metadata),
            ("192.0.0.8", Reserved),
            ("192.88.99.1", Reserved),
            ("192.0.2.1", Documentation),
            ("198.51.100.7", Documentation),
            ("203.0.113.7", Documentation),
            ("198.18.0.1", Benchmarking),
            ("198.19.255.255", Benchmarking),
            ("224.0.0.1", Multicast),
            ("239.255.255.255", Multicast),
            ("240.0.0.1", Reserved),
            ("255.255.255.254", Reserved),
            ("255.255.255.255", Broadcast),
            ("::", Unspecified),
            ("::1", Loopback),
            ("2606:4700:4700::1111", Public),
            ("2001:4860:4860::8888", Public),
            ("2001:200::1", Public),
            ("fc00::1", UniqueLocal),
            ("fdff::1", UniqueLocal),
            ("fd00:ec2::254", Metadata),
            ("fd20:ce::254", Metadata),
            ("fe80::1", LinkLocal),
            ("febf::1", LinkLocal),
            ("fe80::a9fe:a9fe", Metadata),
            ("fec0::1", UniqueLocal),
            ("ff02::1", Multicast),
            ("2001:db8::1", Documentation),
            ("3fff::1", Documentation),
            ("3fff:fff::1", Documentation),
            ("3fff:1000::1", Public),
            ("2001:2::1", Benchmarking),
            ("2001:2:1::1", Reserved),
            ("2001:10::1", Orchid),
            ("2001:1f::1", Orchid),
            ("2001:20::1", Orchid),
            ("2001:30::1", Reserved),
            ("2001:1ff::1", Reserved),
            ("2001:1::1", Reserved),
            ("100::1", Reserved),
            ("5f00::1", Reserved),
            ("4000::1", Reserved),
            ("64:ff9b:1::a00:1", Translated),
            ("64:ff9b:1:ffff::1", Translated),
            ("64:ff9b:2::1", Reserved),
            // Embedded: what the inner address is.
            ("::ffff:10.0.0.1", Private),
            ("::ffff:1.1.1.1", Public),
            ("::ffff:169.254.169.254", Metadata),
            ("::127.0.0.1", Loopback),
            ("::2", Unspecified),
            ("::8.8.8.8", Public),
            ("::ffff:0:192.168.0.1", Private),
            ("64:ff9b::10.1.2.3", Private),
            ("64:ff9b::8.8.8.8", Public),
            ("2002:7f00:1::", Loopback),
            ("2002:a9fe:a9fe::1", Metadata),
            ("2002:0808:0808::1", Public),
            ("2001:0:0a00:1::", Private),               // the server
            ("2001:0:808:808:0:0:f5ff:fffe", Private),  // the client, 10.0.0.1 turned
            ("2001:0:808:808:0:0:fefe:fefe", Public),   // 8.8.8.8 and 1.1.1.1
            ("2001:0:808:808:0:0:5601:5601", Metadata), // 169.254.169.254 turned
        ] {
            assert_eq!(class(text), want, "{text}");
        }
    }

    proptest! {
        /// Every form that carries an IPv4 address is exactly as dangerous as that address. `::` and `::1` are the two
        /// compatible forms with a meaning of their own.
        #[test]
        fn embedding_hides_nothing(v4: u32) {
            let inner = address_class(Ipv4Addr::from(v4).into());
            let low = u128::from(v4);
            let forms = [
                (0xffff << 32) | low,
                (0xffff << 48) | low,
                (0x0064_ff9b_u128 << 96) | low,
                (0x2002_u128 << 112) | (low << 80),
                (0x2001_u128 << 112) | (0x0808_0808 << 64) | u128::from(!v4),
                (0x2001_u128 << 112) | (low << 64) | u128::from(!0x0808_0808_u32),
            ];
            for form in forms {
                prop_assert_eq!(address_class(Ipv6Addr::from(form).into()), inner, "{}", Ipv6Addr::from(form));
            }
            if v4 > 1 {
                prop_assert_eq!(address_class(Ipv6Addr::from(low).into()), inner);
            }
        }

        /// The standard library knows fewer kinds, but never one that this table calls public.
        #[test]
        fn never_looser_than_std(v4: u32, v6: u128) {
            let a = Ipv4Addr::from(v4);
            let b = Ipv6Addr::from(v6);
            let special4 = a.is_private() || a.is_loopback() || a.is_link_local() || a.is_multicast()
                || a.is_broadcast() || a.is_documentation() || a.is_unspecified();
            let special6 = b.is_loopback() || b.is_multicast() || b.is_unspecified() || b.is_unique_local()
                || b.is_unicast_link_local();
            prop_assert!(!special4 || address_class(a.into()) != Public);
            prop_assert!(!special6 || address_class(b.into()) != Public);
        }
    }
}
