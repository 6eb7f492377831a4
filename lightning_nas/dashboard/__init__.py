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

What can be pressed, by its accessible name:

    every page     toggle group "Theme" (Auto, Light, Dark); links of the navigation "Pages of the experiment"
    Overview       button "Stop search", whose dialog has "Stop", "Stop now" and "Cancel"
    Trials         "Columns"; grid "Trials" (a link in each row's first cell); slider "Best per cent of the trials";
                   with trials selected "Metric"
    Trial          buttons "Stop trial" (while it is not final), "Retry trial" (when it is), "Copy with changes" (a
                   dialog with a field per label, "Run copy", "Cancel"); "Search the log", "Search"; links
                   "Download log", "Previous trial", "Next trial", "Architecture", and one for each file
    Architecture   "Trial", "Compare with"; buttons "Download sample", "Download code", "Download ONNX", and
                   "Open in Netron" where the package netron is installed
    One-shot       "Search" (if there are several), slider "Epoch", "Label"
    Pareto         "Horizontal metric", "Horizontal direction", "Vertical metric", "Vertical direction"

Every box is a `region` named by its title. In it charts have the role `img`, and what they show as their name; drawings
have the role `img` and a name; tables that scroll are regions too, and messages have the role `status`.
"""
