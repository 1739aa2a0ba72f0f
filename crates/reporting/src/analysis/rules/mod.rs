//! Writes the prose of an analysis from the figures: the same figures give the same
//! text. It needs no network.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::{
    digest::{Both, CurrencyFigures, Digest, Part},
    facts::halves,
    wording::{count, counted, date, duration, list, money, noun, reason, share},
};

/// Currencies beyond this number are summed up in one sentence.
const MAX_CURRENCIES: usize = 4;
/// A smaller change from the first half to the second is called stable, in percent.
const STABLE: Decimal = Decimal::from_parts(2, 0, 0, false, 0);

/// The paragraphs about these figures: up to six, at least one.
pub(super) fn paragraphs(digest: &Digest) -> Vec<String> {
    let paragraphs = [
        Some(volume(digest)),
        busiest_days(digest),
        refusals(digest),
        concentration(digest),
        unusual(digest),
        settlement(digest),
    ];
    paragraphs.into_iter().flatten().collect()
}

/// The currencies with the most movements, most first.
fn leading(digest: &Digest) -> Vec<&CurrencyFigures> {
    let mut currencies: Vec<_> =
        digest.currencies.iter().filter(|currency| currency.both().count > 0).collect();
    currencies.sort_by_key(|currency| std::cmp::Reverse(currency.both().count));
    currencies.truncate(MAX_CURRENCIES);
    currencies
}

fn volume(digest: &Digest) -> String {
    let period = &digest.period;
    let days = if period.first_day == period.last_day {
        format!("On {}", date(period.first_day))
    } else {
        format!("From {} to {}", date(period.first_day), date(period.last_day))
    };
    let applied = digest.applied();
    if applied == 0 {
        return format!("{days} ({}), the ledger applied no movement.", period.time_zone);
    }
    let mut sentences = vec![format!(
        "{days} ({}), the ledger applied {} in {}.",
        period.time_zone,
        counted(applied, "movement"),
        match digest.currencies.len() {
            1 => "one currency".to_owned(),
            number => format!("{number} currencies"),
        },
    )];
    let leading = leading(digest);
    sentences.extend(leading.iter().map(|currency| currency_volume(currency, digest.parts)));
    let others = digest.currencies.len().saturating_sub(leading.len());
    if others > 0 {
        let shown: u64 = leading.iter().map(|currency| currency.both().count).sum();
        if let Some(share) = share(shown.into(), applied.into()) {
            sentences.push(format!("These currencies have {share} of all movements."));
        }
    }
    sentences.join(" ")
}

fn currency_volume(figures: &CurrencyFigures, parts: Part) -> String {
    let code = &figures.currency;
    let (deposits, withdrawals) = (figures.deposits, figures.withdrawals);
    let net = figures.net();
    let flow = match net {
        net if net > Decimal::ZERO => format!("a net inflow of {}", money(net, code)),
        net if net < Decimal::ZERO => format!("a net outflow of {}", money(net, code)),
        _ => "no net flow".to_owned(),
    };
    let mut text = format!(
        "In {code}, {} brought in {} and {} took out {}: {flow}.",
        counted(deposits.count, "deposit"),
        money(deposits.amount, code),
        counted(withdrawals.count, "withdrawal"),
        money(withdrawals.amount, code),
    );
    if let Some(trend) = trend(figures, parts) {
        text.push(' ');
        text.push_str(&trend);
    }
    text
}

/// The volume of the second half of the parts compared with the first half.
fn trend(figures: &CurrencyFigures, parts: Part) -> Option<String> {
    // Fewer parts have no trend.
    const MIN_PARTS: usize = 4;
    let [first, second] =
        halves(&figures.by_part).filter(|_| figures.by_part.len() >= MIN_PARTS)?;
    let change = second.amount - first.amount;
    let percent = change.checked_div(first.amount)?.checked_mul(Decimal::ONE_HUNDRED)?;
    let part = match parts {
        Part::Day => "days",
        Part::Month => "months",
    };
    if percent.abs() < STABLE {
        return Some(format!("Volume was stable over these {part}."));
    }
    let verb = if change > Decimal::ZERO { "rose" } else { "fell" };
    let share = share(change, first.amount)?;
    Some(format!("From the earlier to the later {part}, volume {verb} by {share}."))
}

fn busiest_days(digest: &Digest) -> Option<String> {
    let leading = leading(digest);
    let mut sentences: Vec<String> = leading
        .iter()
        .filter_map(|currency| {
            let day = currency.busiest_day.as_ref()?;
            let sum = day.both();
            Some(format!(
                "The busiest {} day was {}, with {} of {} in total ({} of the currency's movements).",
                currency.currency,
                date(day.day),
                counted(sum.count, "movement"),
                money(sum.amount, &currency.currency),
                share(sum.count.into(), currency.both().count.into())?,
            ))
        })
        .collect();
    for currency in &leading {
        let (deposits, all) = (currency.deposits, currency.both());
        let by_count = share(deposits.count.into(), all.count.into());
        let by_amount = share(deposits.amount, all.amount);
        if let (Some(by_count), Some(by_amount)) = (by_count, by_amount) {
            sentences.push(format!(
                "Deposits were {by_count} of the {} movements and {by_amount} of their amount.",
                currency.currency
            ));
        }
    }
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

fn refusals(digest: &Digest) -> Option<String> {
    let (applied, refused) = (digest.applied(), digest.refused());
    if refused == 0 {
        return (applied > 0).then(|| "The ledger refused no movement.".to_owned());
    }
    let share_of_all = share(refused.into(), (applied + refused).into())?;
    let mut by_reason: BTreeMap<&str, u64> = BTreeMap::new();
    for refusal in &digest.refusals {
        *by_reason.entry(&refusal.reason).or_default() += refusal.count;
    }
    let mut reasons: Vec<_> = by_reason.into_iter().collect();
    reasons.sort_by_key(|&(_, number)| std::cmp::Reverse(number));
    let parts: Vec<String> = reasons
        .iter()
        .filter_map(|&(code, number)| {
            let share = share(number.into(), refused.into())?;
            Some(format!("{} ({}, {share})", reason(code), count(number)))
        })
        .collect();
    Some(format!(
        "The ledger refused {}, {share_of_all} of all decided movements. The {}: {}.",
        counted(refused, "movement"),
        if parts.len() == 1 { "only reason" } else { "reasons, most frequent first" },
        list(&parts)
    ))
}

fn concentration(digest: &Digest) -> Option<String> {
    let sentences: Vec<String> = leading(digest)
        .into_iter()
        .filter_map(|currency| {
            let code = &currency.currency;
            let whole = currency.both().amount;
            let first = currency.largest_accounts.first()?;
            let listed: Decimal =
                currency.largest_accounts.iter().map(|account| account.volume()).sum();
            let first_share = share(first.volume(), whole)?;
            let moved = money(first.volume(), code);
            Some(match currency.largest_accounts.len() {
                1 => format!("The largest account in {code} moved {moved}, {first_share} of the volume."),
                number => format!(
                    "The {number} largest accounts in {code} made up {} of its volume; the largest one \
                     moved {moved}, {first_share}.",
                    share(listed, whole)?
                ),
            })
        })
        .collect();
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

fn unusual(digest: &Digest) -> Option<String> {
    let unusual = &digest.unusual;
    if digest.applied() == 0 {
        return None;
    }
    let Some(first) = unusual.most_unusual.first().filter(|_| unusual.count > 0) else {
        return Some("No applied movement has an unusual amount.".to_owned());
    };
    let share = share(unusual.count.into(), digest.applied().into())?;
    let are = if unusual.count == 1 { "movement has" } else { "movements have" };
    Some(format!(
        "{} {are} an unusual amount, {share} of all applied ones. The most unusual is a {} of {} on \
         {}, with a score of {:.1}.",
        count(unusual.count),
        noun(first.r#type),
        money(first.amount, &first.currency),
        date(first.day),
        first.score,
    ))
}

fn settlement(digest: &Digest) -> Option<String> {
    let times = digest.settlement.as_ref()?;
    Some(format!(
        "Of {}, 50 of 100 were settled within {} of the request, 90 of 100 within {} and 99 of 100 within {}. \
         The slowest took {}.",
        counted(times.count, "decided movement"),
        duration(times.p50_ms),
        duration(times.p90_ms),
        duration(times.p99_ms),
        duration(times.max_ms),
    ))
}
