"""Stacks: CloudFormation and SAM templates, applied through the AWS API alone."""
