"""The dashboard: a page that shows every experiment under a folder, live, from their stores alone.

`lightning-nas ui [DIR]` opens it; so does `python -m lightning_nas.dashboard DIR`. It needs the extra `[ui]`, and
loads neither torch nor lightning, nor anything from another machine. It only reads; what it asks of a search (stop,
retry, copy) it leaves as a request in the experiment's folder, like the command line.

Pages, KEY being the experiment's name under the folder, written so that it can stand in an address (see
`data.key_of`):

    /                                      Experiments
    /experiment/KEY                        Overview
    /experiment/KEY/trials                 Trials
    /experiment/KEY/trials/NUMBER          Trial
    /experiment/KEY/architecture           Architecture (?trial=NUMBER&other=NUMBER)
    /experiment/KEY/one-shot               One-shot
    /experiment/KEY/pareto                 Pareto
    /experiment/KEY/importance             Importance
    /files/KEY/PATH                        a file of the experiment's folder, as a download
"""
