/* report/page_style.c: see page_style.h.
 *
 * Colours: lines and parts use the palette of Okabe and Ito (made to be told apart with every kind
 * of colour blindness) in an order that also alternates in lightness; heat maps use viridis, which
 * is monotone in lightness, turned so that large values stand out from the paper: dark on white,
 * bright on black. Print is always light.
 *
 * May include: nothing. */
#include "report/page_style.h"

#define VARIABLES_LIGHT                                                                            \
    "--bg:#fff;--fg:#1c2024;--soft:#5b636b;--rule:#d9dde1;--band:#f5f6f7;"                         \
    "--good:#0b6b3a;--bad:#b3261e;--limit:#b3261e;"                                                \
    "--s0:#0072b2;--s1:#e69f00;--s2:#009e73;--s3:#cc79a7;"                                         \
    "--s4:#d55e00;--s5:#56b4e9;--s6:#6b6f75;--s7:#b8a800;"                                         \
    "--h1:#fde725;--h2:#d2e21b;--h3:#a5db36;--h4:#7ad151;--h5:#54c568;--h6:#35b779;"               \
    "--h7:#22a884;--h8:#1f988b;--h9:#23888e;--h10:#2a788e;--h11:#31688e;--h12:#39568c;"            \
    "--h13:#414487;--h14:#472f7d;--h15:#481a6c;--h16:#440154"

#define VARIABLES_DARK                                                                             \
    "--bg:#14171a;--fg:#e4e7ea;--soft:#9aa3ab;--rule:#363c42;--band:#1c2024;"                      \
    "--good:#6fd69b;--bad:#ff8f85;--limit:#ff8f85;"                                                \
    "--s0:#3d9bd8;--s1:#e69f00;--s2:#1fb98c;--s3:#d68fb5;"                                         \
    "--s4:#e8743b;--s5:#86cdf3;--s6:#8d949b;--s7:#f0e442;"                                         \
    "--h1:#440154;--h2:#481a6c;--h3:#472f7d;--h4:#414487;--h5:#39568c;--h6:#31688e;"               \
    "--h7:#2a788e;--h8:#23888e;--h9:#1f988b;--h10:#22a884;--h11:#35b779;--h12:#54c568;"            \
    "--h13:#7ad151;--h14:#a5db36;--h15:#d2e21b;--h16:#fde725"

#define PAGE_RULES                                                                                 \
    "*{box-sizing:border-box}\n"                                                                   \
    "[hidden]{display:none!important}\n"                                                           \
    "html{-webkit-text-size-adjust:100%}\n"                                                        \
    "body{margin:0;background:var(--bg);color:var(--fg);"                                          \
    "font:16px/1.5 system-ui,-apple-system,\"Segoe UI\",Roboto,\"Helvetica Neue\",Arial,"          \
    "sans-serif;overflow-wrap:anywhere}\n"                                                         \
    "main{max-width:72rem;margin:0 auto;padding:2rem 1rem 4rem}\n"                                 \
    "h1{font-size:1.75rem;line-height:1.2;margin:0 0 .25rem}\n"                                    \
    "h2{font-size:1.25rem;line-height:1.3;margin:2.5rem 0 .5rem;padding-top:.75rem;"               \
    "border-top:1px solid var(--rule)}\n"                                                          \
    "p{margin:.5rem 0 1rem;max-width:44rem}\n"                                                     \
    ".subtitle{color:var(--soft);margin-bottom:1.5rem}\n"                                          \
    ".facts{display:grid;grid-template-columns:minmax(5rem,max-content) 1fr;"                      \
    "gap:.15rem 1.25rem;margin:1rem 0}\n"                                                          \
    ".facts dt{color:var(--soft)}.facts dd{margin:0}\n"

#define TABLE_RULES                                                                                \
    ".scroll{overflow-x:auto;margin:1rem 0;max-width:100%}\n"                                      \
    ".table{border-collapse:collapse;font-size:.875rem;line-height:1.35;"                          \
    "font-variant-numeric:tabular-nums;white-space:nowrap;overflow-wrap:normal}\n"                 \
    ".table th,.table td{padding:.3rem .6rem;text-align:left;vertical-align:top;"                  \
    "border-bottom:1px solid var(--rule)}\n"                                                       \
    ".table th{font-weight:600;color:var(--soft);border-bottom:2px solid var(--rule)}\n"           \
    ".table tr>:first-child{padding-left:.25rem}\n"                                                \
    ".table tbody tr:hover{background:var(--band)}\n"                                              \
    ".good{color:var(--good)}.bad{color:var(--bad);font-weight:600}.weak{color:var(--soft)}\n"

/* Text in a wide chart shrinks with it on a phone, so there it is set larger; the charts leave room
 * for that size (svg.h). Tints are transparent only where a browser cannot mix colours: grid lines
 * would shine through. */
#define CHART_RULES                                                                                \
    "figure{margin:1.25rem 0 1.75rem}\n"                                                           \
    ".grid figure,.choice figure{margin:.75rem 0 1rem}\n"                                          \
    "figcaption{font-weight:600;font-size:.9rem;line-height:1.4;margin-bottom:.35rem;"             \
    "max-width:44rem}\n"                                                                           \
    ".plot{display:block;width:100%;height:auto;overflow:visible}\n"                               \
    ".wide{max-width:760px}.small{max-width:480px}\n"                                              \
    ".grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,24rem),1fr));"      \
    "gap:0 2rem;align-items:start}\n"                                                              \
    ".plot text{font-size:12px;fill:var(--fg);font-family:inherit;"                                \
    "font-variant-numeric:tabular-nums}\n"                                                         \
    ".plot .name{fill:var(--soft)}\n"                                                              \
    "@media (max-width:600px){.wide text{font-size:16px}.small text{font-size:13px}}\n"            \
    ".plot line{stroke:var(--rule)}.plot .axis{stroke:var(--soft)}\n"                              \
    ".plot .limit{stroke:var(--limit);stroke-width:1.5;stroke-dasharray:6 4}\n"                    \
    ".plot .limit-text{fill:var(--limit);paint-order:stroke;stroke:var(--bg);stroke-width:3px}\n"  \
    ".line{fill:none;stroke:currentColor;stroke-width:1.75;stroke-linejoin:round}\n"               \
    ".dash1{stroke-dasharray:7 3}.dash2{stroke-dasharray:2 3}.dash3{stroke-dasharray:9 3 2 3}\n"   \
    ".mark,.part{fill:currentColor}\n"                                                             \
    ".tint1{fill-opacity:.6}.tint2{fill-opacity:.35}\n"                                            \
    "@supports (fill:color-mix(in srgb,red,blue)){.tint1,.tint2{fill-opacity:1}"                   \
    ".tint1{fill:color-mix(in srgb,currentColor 60%,var(--bg))}"                                   \
    ".tint2{fill:color-mix(in srgb,currentColor 35%,var(--bg))}}\n"                                \
    ".box{fill:currentColor;fill-opacity:.4;stroke:var(--bg);stroke-width:.7}\n"                   \
    ".cells path{fill:none;stroke-width:1;shape-rendering:crispEdges}\n"                           \
    ".cells .ends{stroke:var(--soft);stroke-width:1px;vector-effect:non-scaling-stroke}\n"         \
    ".frame{fill:none;stroke:var(--soft);stroke-width:1}\n"                                        \
    ".legend,.scale{display:flex;flex-wrap:wrap;gap:.15rem 1rem;list-style:none;padding:0;"        \
    "margin:.25rem 0;font-size:.875rem;line-height:1.5;align-items:center}\n"                      \
    ".legend svg{width:26px;height:10px;margin-right:.4rem;overflow:visible}\n"                    \
    ".scale{gap:.5rem}.scale svg{width:170px;height:14px}\n"                                       \
    ".choice>label{display:block;margin:1rem 0 0;font-size:.875rem;color:var(--soft)}\n"           \
    ".choice select{display:block;font:inherit;font-size:1rem;max-width:100%;padding:.35rem;"      \
    "margin-top:.15rem;color:var(--fg);background:var(--bg);border:1px solid var(--soft);"         \
    "border-radius:4px}\n"

#define COLOUR_RULES                                                                               \
    ".s0{color:var(--s0)}.s1{color:var(--s1)}.s2{color:var(--s2)}.s3{color:var(--s3)}"             \
    ".s4{color:var(--s4)}.s5{color:var(--s5)}.s6{color:var(--s6)}.s7{color:var(--s7)}\n"           \
    ".h1{stroke:var(--h1)}.h2{stroke:var(--h2)}.h3{stroke:var(--h3)}.h4{stroke:var(--h4)}"         \
    ".h5{stroke:var(--h5)}.h6{stroke:var(--h6)}.h7{stroke:var(--h7)}.h8{stroke:var(--h8)}"         \
    ".h9{stroke:var(--h9)}.h10{stroke:var(--h10)}.h11{stroke:var(--h11)}.h12{stroke:var(--h12)}"   \
    ".h13{stroke:var(--h13)}.h14{stroke:var(--h14)}.h15{stroke:var(--h15)}"                        \
    ".h16{stroke:var(--h16)}\n"

#define PRINT_RULES                                                                                \
    "@media print{@page{margin:14mm}body{font-size:10.5pt}main{max-width:none;padding:0}"          \
    "h2,h2+p{break-after:avoid}figure,tr,dl,.choice{break-inside:avoid}"                           \
    ".scroll{overflow:visible}.table{font-size:7.5pt}.table th,.table td{padding:2pt 4pt}"         \
    "thead{display:table-header-group}.choice>label{display:none}"                                 \
    ".wide{max-width:150mm}.small{max-width:95mm}"                                                 \
    ".grid{grid-template-columns:1fr 1fr}}\n"

const char page_style[] =
    ":root{color-scheme:light dark;" VARIABLES_LIGHT "}\n"
    "@media screen and (prefers-color-scheme:dark){:root{" VARIABLES_DARK "}}\n"
    "@media print{:root{color-scheme:light}}\n" PAGE_RULES TABLE_RULES CHART_RULES COLOUR_RULES
        PRINT_RULES;
