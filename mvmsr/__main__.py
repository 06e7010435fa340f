"""`python -m mvmsr`: the `mvmsr` command."""

from mvmsr.cli import main

main()
