"""Suites and generators that test strategies, domains, evaluators and runners: ours, and other people's.

They need pytest and hypothesis: `pip install lightning-nas[testing]`.
"""
