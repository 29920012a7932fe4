//! Child orchestrations: each region makes its own report, at the same time, and the parent puts them together.

use perennial_sdk::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Region {
    name: String,
    stores: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct RegionReport {
    region: String,
    sales: u64,
}

#[derive(Serialize)]
struct Report {
    regions: Vec<RegionReport>,
    sales: u64,
    /// Regions without a report, and why.
    missing: Vec<String>,
}

#[orchestration]
async fn report(ctx: Context, regions: Vec<Region>) -> Result<Report, Failure> {
    let children = regions.into_iter().map(|region| {
        // Each child is an instance that can be looked at by itself.
        let id = format!("{}-{}", ctx.instance_id(), region.name);
        ctx.call_child(regional_report, region).instance_id(id)
    });
    let mut report = Report {
        regions: Vec::new(),
        sales: 0,
        missing: Vec::new(),
    };
    for result in join_all(children).await {
        match result {
            Ok(region) => {
                report.sales += region.sales;
                report.regions.push(region);
            }
            Err(failure) => report.missing.push(failure.to_string()),
        }
    }
    Ok(report)
}

#[orchestration]
async fn regional_report(ctx: Context, region: Region) -> Result<RegionReport, Failure> {
    if region.stores.is_empty() {
        let message = format!("{} has no stores", region.name);
        return Err(Failure::new("NoStores", message).not_retryable());
    }
    let sales = try_join_all(
        region
            .stores
            .into_iter()
            .map(|store| ctx.call(sales_of, store)),
    );
    Ok(RegionReport {
        sales: sales.await?.into_iter().sum(),
        region: region.name,
    })
}

/// Stands for a request to the store's till.
#[activity]
fn sales_of(store: String) -> Result<u64, Failure> {
    Ok(100 * store.len() as u64)
}

perennial_sdk::export! {
    orchestrations: [report, regional_report],
    activities: [sales_of],
}
