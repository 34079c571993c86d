//! The table of drop reasons in the documentation is the one in the code.

use iqra_sip::observe::{DropReason, DropRow};

#[test]
fn the_documentation_lists_every_drop_reason_in_order() {
    let page = include_str!("../../docs/observing.md");
    let documented: Vec<_> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let rows = DropReason::ALL.map(|reason| {
        let DropRow { label, help } = reason.row();
        format!("| `{label}` | {help} |")
    });
    assert_eq!(documented, rows);
}
