"""The report of an import as a person reads it: what changes, what was not taken and why, and what to do next."""

from rich.table import Table

from services.cli.client import Homeroom, Json, out, plain, printed
from shared.reasons import load_reasons

FIRST_PROBLEMS = 10
KINDS = {
    "added": "new to the district: they may claim when their wait is over",
    "returned": "enrolled again, with the wait that they had",
    "withdrawn": "no longer students, or staff: `gone` says why, or the export does not have them",
    "corrected": "another name",
    "renumbered": "another number, and so another username",
    "moved": "another school, grade or role",
    "reassigned": "in other classes, or in classes that stand otherwise",
    "linked": "known from elsewhere; from now on the export says who they are",
    "baseline": "known, and now without a wait",
    "unchanged": "as they were",
    "refused": "rows that were not taken; whoever they are about is left as they were",
    "remarks": "values that were not taken, of rows that were",
    "shared_numbers": "people under a number that another one has: none of them can claim until it is set right",
}
PASSED_OVER = {
    "staff": "staff, since the district's policy takes none from exports",
    "guardians": "guardians",
    "other_roles": "people in roles of the district's own",
    "no_role": "users without a role",
    "repeated": "rows that say the same twice",
    "roles_without_user": "roles of users who are not in the export",
    "unknown_org": "people and classes whose school is not in orgs.csv: taken without it",
    "members_not_taken": "enrollments of people who are not taken, or gone",
    "other_members": "enrollments of others than teachers and students",
    "classes_ended": "enrollments that ended long ago, of people with more than are kept",
    "unknown_files": "files that are not read",
    "never_here": "people who leave and never were here",
    "merged": "records that were merged into others who are there as well",
    "never_exported": "enrolled pupils whom no export has named: left as they are",
    "anonymous": "rows without a readable sourcedId: because of them nobody counts as absent",
}
STATES = {
    "pulling": "is being pulled from the SIS",
    "received": "is being read",
    "awaiting_approval": "waits for a second person; nothing has happened yet",
    "applying": "is being applied",
    "done": "is done",
    "refused": "was refused; nothing happened",
    "cancelled": "was cancelled",
    "failed": "was given up because of an error of ours",
}


async def print_report(homeroom: Homeroom, role: str, report: Json) -> None:
    """All of it; the first problems are asked for."""
    _head(report)
    _figures(report)
    if report["threshold"]:
        _threshold(report)
    if report["problems"] or report["counts"].get("remarks"):
        path = f"/imports/{report['import_id']}/problems"
        _problems((await homeroom.get("roster", path, role=role))["problems"], report)


def _head(report: Json) -> None:
    what = "dry run" if report["dry_run"] else "import"
    state = (
        "is done; nothing was changed"
        if report["dry_run"] and report["state"] == "done"
        else STATES[report["state"]]
    )
    out.print(f"[bold]The {what} {state}.[/bold]  {report['import_id']}")
    came = [
        report["file_name"],
        report["mode"],
        report["version"] and f"OneRoster {report['version']}",
        report["source"],
    ]
    out.print(", ".join([*(plain(each) for each in came if each), f"as of {report['as_of']}"]))
    if report["approved_by"]:
        out.print(f"approved by {plain(report['approved_by_name'] or report['approved_by'])}")
    if report["state"] != "pulling" and report["done"] < report["total"] and not report["dry_run"]:
        out.print(f"{report['done']:,} of {report['total']:,} rows were applied")


def _figures(report: Json) -> None:
    if not report["mode"]:
        return
    drawn = Table.grid(padding=(0, 2))
    for kind, meaning in KINDS.items():
        if n := report["counts"].get(kind):
            drawn.add_row(f"[bold]{n:>9,}[/bold]", kind.replace("_", " "), meaning)
    for kind, n in report["passed_over"].items():
        drawn.add_row(
            f"{n:>9,}", "not taken" if kind != "never_exported" else "", PASSED_OVER.get(kind, kind)
        )
    printed(drawn)


def _threshold(report: Json) -> None:
    rule, import_id = report["threshold"], report["import_id"]
    if not rule["exceeded"]:
        return
    count, percent = rule["approval_above"], rule["approval_above_percent"]
    out.print(
        f"Of {rule['enrolled']:,} enrolled it withdraws {rule['withdrawn']:,} and gives {rule['renumbered']:,} another"
        f" number. More than {count} of either, or more than {percent} %, need a second person."
    )
    if report["state"] == "awaiting_approval":
        out.print(
            f"Who it is:      homeroom import show {import_id} --changes withdrawn\n"
            f"Let it go on:   homeroom import approve {import_id}   (somebody else than who uploaded it)\n"
            f"Stop it:        homeroom import cancel {import_id}"
        )


def _problems(problems: list[Json], report: Json) -> None:
    shown = problems[:FIRST_PROBLEMS]
    out.print()
    print_problems(shown)
    total = sum(report["problems"].values()) + report["counts"].get("remarks", 0)
    if total > len(shown):
        out.print(
            f"The first {len(shown)} of {total:,}: homeroom import show {report['import_id']} --problems"
        )


def print_problems(problems: list[Json]) -> None:
    """Row by row: where, what the file has there, why it was not taken; then what to do about each reason."""
    known = load_reasons("services.roster")
    for problem in problems:
        where = f"{problem['file']}:{problem['line']}"
        value = "" if problem["value"] is None else f" {plain(repr(problem['value']))}"
        hint = problem["details"].get("hint")
        out.print(
            f"{where} {problem['column'] or 'the row'}{value}: [red]{problem['reason']}[/red]"
            + (f" ({hint})" if hint else "")
            + (", taken without it" if problem["taken"] else "")
        )
    for reason in dict.fromkeys(problem["reason"] for problem in problems):
        if reason in known:
            out.print(f"  [bold]{reason}[/bold]: {plain(known[reason].meaning)} {plain(known[reason].next)}")


def print_changes(changes: list[Json]) -> None:
    """Person by person: where the export says it, what was on file, what it says."""
    for change in changes:
        before, after = change["before"] or {}, change["after"]
        where = f"{change['file']}:{change['line']}" if change["file"] else "not in the export"
        said = [_said(field, before, value) for field, value in after.items() if value != before.get(field)]
        said += [f"into {plain(key)}" for key in change["assigned"]]
        said += [f"out of {plain(key)}" for key in change["unassigned"]]
        if change["reason"]:
            said.append(f"[red]{change['reason']}[/red]")
        kinds = ", ".join(change["kinds"])
        out.print(
            f"[bold]{kinds}[/bold] ({change['state']}) {plain(change['source_id'])}, {where}: {', '.join(said)}"
        )


def _said(field: str, before: Json, value: str) -> str:
    if field == "gone" or not before:
        return f"{field} {plain(value)}"
    return f"{field} {plain(before.get(field))} → {plain(value)}"
