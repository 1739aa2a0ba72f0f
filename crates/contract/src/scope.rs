//! The scopes of access tokens (RFC 6749, section 3.3): what a caller may do.

use std::fmt;

/// One permission of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Show accounts and records.
    AccountsRead,
    /// Open accounts.
    AccountsWrite,
    /// Use the accounts of every owner. Without it, callers use their own only.
    AccountsAny,
    /// Make deposits: they create money in an account.
    DepositsWrite,
    /// Make withdrawals.
    WithdrawalsWrite,
    /// Show reports and fetch their files.
    ReportsRead,
    /// Ask for reports, cancel and retry them.
    ReportsWrite,
    /// Read the events of accounts and records.
    EventsRead,
    /// Keep webhook endpoints, which receive events.
    WebhooksWrite,
    /// Read the audit log.
    AuditRead,
    /// Create, list and revoke API keys.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 11] = [
        Self::AccountsRead,
        Self::AccountsWrite,
        Self::AccountsAny,
        Self::DepositsWrite,
        Self::WithdrawalsWrite,
        Self::ReportsRead,
        Self::ReportsWrite,
        Self::EventsRead,
        Self::WebhooksWrite,
        Self::AuditRead,
        Self::Admin,
    ];

    /// The scopes that an API key may have. Reports take tokens only, and no key manages keys.
    pub const OF_API_KEYS: [Self; 8] = [
        Self::AccountsRead,
        Self::AccountsWrite,
        Self::AccountsAny,
        Self::DepositsWrite,
        Self::WithdrawalsWrite,
        Self::EventsRead,
        Self::WebhooksWrite,
        Self::AuditRead,
    ];

    const fn bit(self) -> u16 {
        match self {
            Self::AccountsRead => 1,
            Self::AccountsWrite => 1 << 1,
            Self::AccountsAny => 1 << 2,
            Self::DepositsWrite => 1 << 3,
            Self::WithdrawalsWrite => 1 << 4,
            Self::ReportsRead => 1 << 5,
            Self::ReportsWrite => 1 << 6,
            Self::EventsRead => 1 << 7,
            Self::WebhooksWrite => 1 << 8,
            Self::AuditRead => 1 << 9,
            Self::Admin => 1 << 10,
        }
    }

    /// Its name in a token.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccountsRead => "accounts:read",
            Self::AccountsWrite => "accounts:write",
            Self::AccountsAny => "accounts:any",
            Self::DepositsWrite => "deposits:write",
            Self::WithdrawalsWrite => "withdrawals:write",
            Self::ReportsRead => "reports:read",
            Self::ReportsWrite => "reports:write",
            Self::EventsRead => "events:read",
            Self::WebhooksWrite => "webhooks:write",
            Self::AuditRead => "audit:read",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The scopes of a caller.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u16);

impl Scopes {
    /// What a customer needs. No deposits: a customer alone must not create money.
    #[must_use]
    pub fn customer() -> Self {
        use Scope::{
            AccountsRead, AccountsWrite, EventsRead, ReportsRead, ReportsWrite, WebhooksWrite,
            WithdrawalsWrite,
        };
        let accounts = [AccountsRead, AccountsWrite, WithdrawalsWrite];
        let others = [ReportsRead, ReportsWrite, EventsRead, WebhooksWrite];
        accounts.into_iter().chain(others).collect()
    }

    /// What a teller needs: all but the administration of keys, and the log of what tellers did.
    #[must_use]
    pub fn teller() -> Self {
        let of_admins = [Scope::Admin, Scope::AuditRead];
        Scope::ALL.into_iter().filter(|scope| !of_admins.contains(scope)).collect()
    }

    /// Every scope: what an administrator of the bank needs.
    #[must_use]
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// Of the claim `scope`: names with a blank between them. Unknown names are ignored, because
    /// a token may be for other services, too.
    #[must_use]
    pub fn parse(claim: &str) -> Self {
        let named = |name: &str| Scope::ALL.into_iter().find(|scope| scope.as_str() == name);
        claim.split(' ').filter_map(named).collect()
    }

    /// Whether this scope is among them.
    #[must_use]
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

/// As in a token.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Scope::ALL.into_iter().filter(|scope| self.contains(*scope));
        let names: Vec<_> = names.map(Scope::as_str).collect();
        f.write_str(&names.join(" "))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scopes({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_parsed_and_shown() {
        for scope in Scope::ALL {
            let scopes = Scopes::parse(scope.as_str());
            assert!(scopes.contains(scope));
            assert_eq!(Scope::ALL.iter().filter(|other| scopes.contains(**other)).count(), 1);
        }
        let scopes = Scopes::parse("openid deposits:write  accounts:read Deposits:Write");
        assert_eq!(scopes.to_string(), "accounts:read deposits:write");
        assert_eq!(Scopes::parse(""), Scopes::default());
    }
}
