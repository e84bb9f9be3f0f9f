"""Things to copy and to try: a deployment of hospitals on one machine."""
