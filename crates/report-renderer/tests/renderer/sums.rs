//! The entries of a file add up to the totals of the statement.

use proptest::prelude::*;
use report_document::{Document, Entry, Format, Statement};
use rust_decimal::Decimal;

use crate::{documents::MadeEntries, text};

fn decimal(text: &str) -> Decimal {
    Decimal::from_str_exact(text).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_columns_of_a_csv_add_up_to_the_totals(
        count in 0_u64..60,
        (currency, exponent) in prop::sample::select(vec![("KRW", 0), ("USD", 2), ("KWD", 3), ("CLF", 4)]),
        extra in 0_i64..9_000_000_000_000_000,
    ) {
        let entries = MadeEntries { count, exponent, extra };
        let statement = entries.statement(currency);
        let csv = text(Format::Csv, &Document::Statement(&statement, &entries));
        let mut rows = ::csv::Reader::from_reader(csv.as_bytes());
        let rows: Vec<::csv::StringRecord> = rows.records().map(Result::unwrap).collect();
        let sum = |column: usize| -> Decimal {
            rows.iter().filter(|row| !row[column].is_empty()).map(|row| decimal(&row[column])).sum()
        };
        prop_assert_eq!(sum(4), statement.credits.amount);
        prop_assert_eq!(sum(5), statement.debits.amount);
        prop_assert_eq!(decimal(&rows[0][6]), statement.opening.balance);
        prop_assert_eq!(decimal(&rows[rows.len() - 1][6]), statement.closing.balance);
        prop_assert_eq!(u64::try_from(rows.len()).unwrap(), count + 2);
    }

    #[test]
    fn the_entries_of_a_json_file_add_up_to_its_totals(count in 0_u64..60, extra in 0_i64..9_000_000_000_000_000) {
        #[derive(serde::Deserialize)]
        struct File {
            #[serde(flatten)]
            statement: Statement,
            entries: Vec<Entry>,
        }
        let entries = MadeEntries { count, exponent: 2, extra };
        let statement = entries.statement("USD");
        let json = text(Format::Json, &Document::Statement(&statement, &entries));
        let file: File = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&file.statement, &statement);
        let sum = |kind: contract::Kind| -> Decimal {
            file.entries.iter().filter(|entry| entry.r#type == kind).map(|entry| entry.amount).sum()
        };
        prop_assert_eq!(sum(contract::Kind::Deposit), statement.credits.amount);
        prop_assert_eq!(sum(contract::Kind::Withdrawal), statement.debits.amount);
    }
}

#[test]
fn a_csv_has_crlf_and_no_formula() {
    let entries = MadeEntries { count: 2, exponent: 0, extra: 0 };
    let statement = entries.statement("KRW");
    let csv = text(Format::Csv, &Document::Statement(&statement, &entries));
    assert_eq!(csv.matches("\r\n").count(), 5);
    assert_eq!(csv.matches('\n').count(), 5);
    assert!(csv.contains(",'=ann@example.com,,\r\n"), "{csv}");
    assert!(csv.contains(",\"'=SUM(A1:A9) \"\"x\"\"\",\"가 ENTRY,"), "{csv}");
}
