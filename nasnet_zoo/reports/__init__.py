"""Pages, charts, tables and model cards, of anything: no search and no export is known here."""
