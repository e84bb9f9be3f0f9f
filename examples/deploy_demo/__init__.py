"""A deployment on one machine: `python -m examples.deploy_demo`.

The steps are those of docs/deploy.md, one after the other: somebody provisions, kits are handed out
and prepared, a server and three hospitals start as processes of their own, and train.py runs a
federation with them.
"""
