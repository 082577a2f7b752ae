"""What people see of a ledger: sums and shares (`summary`), terminal tables (`tables`), a page with plots (`html`)."""
