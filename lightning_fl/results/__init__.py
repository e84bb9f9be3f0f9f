"""What a run leaves behind for people: tables, the summary, the report and its pictures."""
